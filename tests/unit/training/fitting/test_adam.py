from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from routeiq.training.fitting.adam import (
    Matrix,
    Parameters,
    base_rates_of,
    bounded,
    descend,
    scaling,
)
from tests.support import estimators


def test_base_rates_by_hand() -> None:
    # sums 1 of 2 and 0 of 1; overall (1 + 0.5) / (3 + 1) = 0.375 with strength 2
    scores = np.array([[1.0, np.nan], [0.0, 0.0]], np.float32)
    found = base_rates_of(scores, np.ones(2, np.float32))
    assert np.allclose(found, [(1 + 0.75) / 4, 0.75 / 3])


def test_scaling_folds_into_a_layer_and_silences_constants() -> None:
    x = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    x[:, 1] = 0.25
    scale = scaling(x)
    weights = np.ones((3, 2), np.float32)
    raw, bias = scale.fold(weights, np.zeros(2, np.float32))
    assert np.allclose(x @ raw + bias, ((x - scale.mean) / scale.spread) @ weights, atol=1e-4)
    assert raw[1].tolist() == [0.0, 0.0]


def test_descends_to_the_least_squares_solution() -> None:
    table = estimators.synthetic(400)

    def gradient(p: Parameters, x: Matrix, y: Matrix, weight: Matrix) -> Mapping[str, Matrix]:
        return {"b": ((p["b"] - y) * weight).sum(axis=0)}

    start = {"b": np.zeros(3, np.float32)}
    found = descend(
        table, start, gradient, scaling(table.features), seed=0, epochs=200, rate=0.01, decay={}
    )
    assert np.allclose(found["b"], table.scores.mean(axis=0), atol=0.02)
    assert start["b"].tolist() == [0.0, 0.0, 0.0]


def test_bounded_takes_the_same_rows_every_time() -> None:
    table = estimators.synthetic(100)
    assert bounded(table, 0, 200) is table
    assert bounded(table, 0, 30).ids == bounded(table, 0, 30).ids
    assert len(bounded(table, 0, 30)) == 30
