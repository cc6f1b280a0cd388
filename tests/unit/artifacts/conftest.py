"""A small artifact, and how to make others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.artifacts.manifest import Manifest
from tests.support.clock import FakeClock

Make = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk makes no difference to a process that lives on; the integration tests do wait."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def make() -> Make:
    """`make(folder, seed=0, strategy="knn", signer=None, **fields of Draft)` writes an artifact."""

    def write(
        folder: Path, seed: int = 0, strategy: str = "knn", signer: Any = None, **more: Any
    ) -> Manifest:
        arrays = {
            "weights": np.random.default_rng(seed).random((7, 5), np.float32),
            "counts": np.arange(3, dtype=np.int64),
            "seen": np.array([True, False, True]),
        }
        draft = Draft(
            **{
                "strategy": strategy,
                "features": "static:1",
                "models": ("small", "large"),
                "arrays": arrays,
                "settings": {"k": 5},
                "metrics": {"aiq": 0.5},
                "data_sha256": "d" * 64,
                "files": {"card.md": b"# A card\n"},
                **more,
            }
        )
        return write_artifact(folder, draft, signer=signer, clock=FakeClock())

    return write
