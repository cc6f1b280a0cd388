"""Prompt features by name for the commands: MiniLM from where the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from routeiq.config.environment import process_environment
from routeiq.embeddings.features import Features
from routeiq.embeddings.features import open_features as open_from

EMBEDDER_PATH = "ROUTEIQ_EMBEDDER_PATH"


def open_features(name: str, environment: Mapping[str, str] | None = None) -> Features:
    """The features; `environment` is the process's own unless another is given.

    Raises:
        EmbeddingError: no such features, or the model is nowhere.
    """
    known = process_environment() if environment is None else environment
    path = known.get(EMBEDDER_PATH)
    return open_from(name, Path(path) if path else None, known)
