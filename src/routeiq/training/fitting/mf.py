"""Fits `mf`: factors of prompts and models, by log loss on scores, never on which model was best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routeiq.strategies.mf import MfEstimator
from routeiq.strategies.numeric import Calibration, logit, sigmoid
from routeiq.training.table import Table

from .adam import Matrix, Parameters, base_rates, bounded, descend, scaling
from .whole import fit_whole

RANK = 12
"""Dimensions; more than the models gains nothing."""
EPOCHS = 40
DECAY = 2.0
FOLDS = 5


def fit_mf(
    table: Table,
    *,
    seed: int = 0,
    rank: int = RANK,
    epochs: int = EPOCHS,
    decay: float = DECAY,
    folds: int = FOLDS,
) -> MfEstimator:
    """Factorise the scores over the features; calibrated out of fold.

    Args:
        table: rows; NaN scores are missing.
        seed: of the start, the order of the rows, and the folds.
        rank: dimensions of the vectors.
        epochs: passes over the rows.
        decay: pull of the factors to 0.
        folds: for the calibration.
    """
    table = bounded(table, seed)

    def fit(part: Table) -> MfEstimator:
        return _fit(part, seed=seed, rank=rank, epochs=epochs, decay=decay)

    return fit_whole(fit, table, folds=folds, seed=seed)


def _fit(table: Table, *, seed: int, rank: int, epochs: int, decay: float) -> MfEstimator:
    rng = np.random.default_rng(seed)
    d, count = table.features.shape[1], len(table.models)
    rank = max(1, min(rank, count))
    scale = scaling(table.features)
    start = {
        "prompt": rng.normal(0.0, 0.3 / np.sqrt(d), (d, rank)).astype(np.float32),
        "model": rng.normal(0.0, 1.0 / np.sqrt(rank), (count, rank)).astype(np.float32),
        "offset": logit(base_rates(table)),
    }
    found = descend(
        table,
        start,
        _gradient,
        scale,
        seed=seed,
        epochs=epochs,
        decay={"prompt": decay, "model": decay / 10},
    )
    prompt, bias = scale.fold(found["prompt"], np.zeros(rank, np.float32))
    return MfEstimator(
        table.models,
        prompt=prompt,
        prompt_bias=bias,
        model=found["model"],
        model_bias=found["offset"],
        calibration=Calibration.identity(count),
    )


def _gradient(p: Parameters, x: Matrix, y: Matrix, weight: Matrix) -> Mapping[str, Matrix]:
    latent = x @ p["prompt"]
    error = (sigmoid(np.asarray(latent @ p["model"].T + p["offset"], np.float32)) - y) * weight
    return {
        "prompt": x.T @ (error @ p["model"]),
        "model": error.T @ latent,
        "offset": error.sum(axis=0),
    }
