"""Fits `irt`: abilities of models, difficulty and discrimination of prompts, by log loss on scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routeiq.strategies.irt import IrtEstimator
from routeiq.strategies.numeric import Calibration, logit, sigmoid
from routeiq.training.table import Table

from .adam import Matrix, Parameters, base_rates, bounded, descend, scaling
from .whole import fit_whole

RANK = 8
"""Abilities."""
EPOCHS = 60
DECAY = 5.0
FOLDS = 5


def fit_irt(
    table: Table,
    *,
    seed: int = 0,
    rank: int = RANK,
    epochs: int = EPOCHS,
    decay: float = DECAY,
    folds: int = FOLDS,
) -> IrtEstimator:
    """Estimate abilities and item functions; calibrated out of fold.

    Args:
        table: rows; NaN scores are missing.
        seed: of the start, the order of the rows, and the folds.
        rank: how many abilities.
        epochs: passes over the rows.
        decay: pull of the item functions to the same item for all prompts.
        folds: for the calibration.
    """
    table = bounded(table, seed)

    def fit(part: Table) -> IrtEstimator:
        return _fit(part, seed=seed, rank=rank, epochs=epochs, decay=decay)

    return fit_whole(fit, table, folds=folds, seed=seed)


def _fit(table: Table, *, seed: int, rank: int, epochs: int, decay: float) -> IrtEstimator:
    rng = np.random.default_rng(seed)
    d, count = table.features.shape[1], len(table.models)
    rank = max(1, min(rank, count))
    scale = scaling(table.features)
    each = logit(base_rates(table))
    # softplus(bias) is about 1/rank: together the abilities begin as the model's overall level
    start = {
        "prompt": rng.normal(0.0, 0.3 / np.sqrt(d), (d, rank + 1)).astype(np.float32),
        "bias": np.append(np.full(rank, np.log(np.expm1(1.0 / rank))), 0.0).astype(np.float32),
        "ability": (each[:, None] + rng.normal(0.0, 0.5, (count, rank))).astype(np.float32),
    }
    found = descend(
        table,
        start,
        _gradient,
        scale,
        seed=seed,
        epochs=epochs,
        decay={"prompt": decay, "ability": decay / 10},
    )
    prompt, bias = scale.fold(found["prompt"], found["bias"])
    return IrtEstimator(
        table.models,
        prompt=prompt,
        prompt_bias=bias,
        ability=found["ability"],
        calibration=Calibration.identity(count),
    )


def _gradient(p: Parameters, x: Matrix, y: Matrix, weight: Matrix) -> Mapping[str, Matrix]:
    item = x @ p["prompt"] + p["bias"]
    discrimination = np.logaddexp(np.float32(0.0), item[:, :-1])
    error = (sigmoid(discrimination @ p["ability"].T - item[:, -1:]) - y) * weight
    back = np.empty_like(item)
    # the slope of softplus is the sigmoid
    back[:, :-1] = (error @ p["ability"]) * sigmoid(item[:, :-1].copy())
    back[:, -1] = -error.sum(axis=1)
    return {"prompt": x.T @ back, "bias": back.sum(axis=0), "ability": error.T @ discrimination}
