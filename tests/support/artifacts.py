"""Small trained artifacts that the shipped strategies take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.artifacts.manifest import Manifest
from routeiq.embeddings.features import load_features
from routeiq.training.fitting.train import SAME, train
from routeiq.training.table import Table
from tests.support.estimators import Matrix, table

MODELS = ("model-0", "model-1", "model-2")
SETTINGS = {
    "mlp": {"decay": 2.0, "epochs": 3, "width": 8},
    "mf": {"decay": 2.0, "epochs": 5, "rank": 2},
    "irt": {"decay": 5.0, "epochs": 5, "rank": 2},
}
"""Fixed, so that nothing is searched: these artifacts are to exist, not to be good."""


def tiny_table(rows: int = 80, *, seed: int = 0) -> Table:
    """Random prompts in the shipped feature space; the first feature says which of three models is good."""
    rng = np.random.default_rng(seed)
    features = load_features()
    vectors: Matrix = rng.random((rows, features.dimension), dtype=np.float32) / np.float32(10)
    right = vectors[:, :1] * 10 > np.array([[0.1, 0.5, 0.9]])
    scores = np.where(rng.random((rows, 3)) < 0.1, ~right, right).astype(np.float32)
    return replace(table(vectors, scores), models=MODELS, fingerprint=features.fingerprint)


def tiny_artifact(folder: Path, kind: str, *, seed: int = 0) -> Manifest:
    """Train `kind` on `tiny_table` and write the artifact."""
    data = tiny_table(seed=seed)
    fitted = train(kind, data, settings={"measure": False, **SETTINGS.get(kind, {})})
    arrays, settings = fitted.estimator.state()
    draft = Draft(
        strategy=SAME.get(kind, kind),
        features=data.fingerprint,
        models=data.models,
        arrays=arrays,
        settings={**fitted.settings, "estimator": settings},
    )
    return write_artifact(folder, draft)
