from __future__ import annotations

from math import isnan

import numpy as np

from routeiq.strategies.mf import MfEstimator
from routeiq.strategies.numeric import Calibration
from routeiq.training.fitting.search import difference_error, search
from routeiq.training.table import Table
from tests.support import estimators

GRID = {"level": (0.9, 0.1, 0.35, 0.6), "unused": (1, 2)}


def fit(table: Table, *, seed: int, level: float, unused: int) -> MfEstimator:
    """Says the same for every prompt and model."""
    d, count = table.features.shape[1], len(table.models)
    return MfEstimator(
        table.models,
        prompt=np.zeros((d, 1), np.float32),
        prompt_bias=np.zeros(1, np.float32),
        model=np.zeros((count, 1), np.float32),
        model_bias=np.full(count, level, np.float32),
        calibration=Calibration.identity(count),
    )


def test_finds_the_best_of_all() -> None:
    found = search(fit, estimators.synthetic(300), GRID, trials=100)
    assert len(found) == 8
    assert found[0].settings["level"] == 0.35  # the mean score is about 0.33
    assert [t.error for t in found] == sorted(t.error for t in found)


def test_trials_are_bounded_and_the_defaults_are_among_them() -> None:
    told: list[str] = []
    found = search(fit, estimators.synthetic(300), GRID, trials=3, progress=told.append)
    assert len(found) == len(told) == 3
    assert {"level": 0.9, "unused": 1} in [trial.settings for trial in found]


def test_the_same_seed_tries_the_same() -> None:
    table = estimators.synthetic(300)
    first = search(fit, table, GRID, trials=4, seed=5)
    assert first == search(fit, table, GRID, trials=4, seed=5)


def test_too_few_rows_keep_the_defaults() -> None:
    (only,) = search(fit, estimators.synthetic(30), GRID, trials=8)
    assert only.settings == {"level": 0.9, "unused": 1}
    assert isnan(only.error)


def test_difference_error_by_hand() -> None:
    # errors (0.4, 0.2): squares 0.16 + 0.04; own parts (0.1, -0.1): 0.01 + 0.01; over two scores
    predicted = np.array([[0.4, 0.2, 0.9]], np.float32)
    scores = np.array([[0.0, 0.0, np.nan]], np.float32)
    assert abs(difference_error(predicted, scores) - (0.20 + 0.02) / 2) < 1e-6
    assert isnan(difference_error(predicted, np.full((1, 3), np.nan, np.float32)))
