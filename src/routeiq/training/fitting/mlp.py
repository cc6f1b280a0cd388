"""Fits `mlp`: several small networks by log loss on scores, joined into one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routeiq.strategies.mlp import MlpEstimator
from routeiq.strategies.numeric import Calibration, logit, sigmoid
from routeiq.training.table import Table

from .adam import Matrix, Parameters, base_rates, bounded, descend, scaling
from .whole import fit_whole

WIDTH = 24
"""Hidden units of one network."""
NETWORKS = 6
EPOCHS = 20
DECAY = 2.0
FOLDS = 5


def fit_mlp(
    table: Table,
    *,
    seed: int = 0,
    width: int = WIDTH,
    networks: int = NETWORKS,
    epochs: int = EPOCHS,
    decay: float = DECAY,
    folds: int = FOLDS,
) -> MlpEstimator:
    """Train networks from different seeds and average their logits; calibrated out of fold.

    Args:
        table: rows; NaN scores are missing.
        seed: of the starts, the orders of the rows, and the folds.
        width: hidden units of one network.
        networks: how many.
        epochs: passes over the rows.
        decay: pull of the weights to 0.
        folds: for the calibration.
    """
    table = bounded(table, seed)

    def fit(part: Table) -> MlpEstimator:
        return train_networks(
            part, seed=seed, width=width, networks=networks, epochs=epochs, decay=decay
        )

    return fit_whole(fit, table, folds=folds, seed=seed)


def train_networks(
    table: Table,
    *,
    seed: int = 0,
    width: int = WIDTH,
    networks: int = NETWORKS,
    epochs: int = EPOCHS,
    decay: float = DECAY,
) -> MlpEstimator:
    """Networks from different seeds as one estimator, not calibrated yet; arguments as in `fit_mlp`."""
    each = [
        _fit(table, seed=seed + 1000 * i, width=width, epochs=epochs, decay=decay)
        for i in range(networks)
    ]
    return _join(table.models, each)


def _fit(table: Table, *, seed: int, width: int, epochs: int, decay: float) -> Parameters:
    rng = np.random.default_rng(seed)
    d, count = table.features.shape[1], len(table.models)
    scale = scaling(table.features)
    start = {
        "hidden": rng.normal(0.0, np.sqrt(1.0 / d), (d, width)).astype(np.float32),
        "hidden_bias": np.zeros(width, np.float32),
        "output": rng.normal(0.0, 0.1 / np.sqrt(width), (width, count)).astype(np.float32),
        "output_bias": logit(base_rates(table)),
    }
    found = descend(
        table,
        start,
        _gradient,
        scale,
        seed=seed,
        epochs=epochs,
        decay={"hidden": decay, "output": decay},
    )
    found["hidden"], found["hidden_bias"] = scale.fold(found["hidden"], found["hidden_bias"])
    return found


def _gradient(p: Parameters, x: Matrix, y: Matrix, weight: Matrix) -> Mapping[str, Matrix]:
    before = x @ p["hidden"] + p["hidden_bias"]
    active = np.maximum(before, np.float32(0.0))
    error = (sigmoid(active @ p["output"] + p["output_bias"]) - y) * weight
    back = (error @ p["output"].T) * (before > 0)
    return {
        "hidden": x.T @ back,
        "hidden_bias": back.sum(axis=0),
        "output": active.T @ error,
        "output_bias": error.sum(axis=0),
    }


def _join(models: tuple[str, ...], each: list[Parameters]) -> MlpEstimator:
    """Hidden layers side by side; the mean of the logits is the sum over all of them, divided by their number."""
    share = np.float32(1.0 / len(each))
    return MlpEstimator(
        models,
        hidden=np.concatenate([one["hidden"] for one in each], axis=1),
        hidden_bias=np.concatenate([one["hidden_bias"] for one in each]),
        output=np.concatenate([one["output"] for one in each], axis=0) * share,
        output_bias=np.sum([one["output_bias"] for one in each], axis=0) * share,
        calibration=Calibration.identity(len(models)),
    )
