from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from routeiq.strategies.knn import KnnEstimator
from routeiq.training.fitting.knn import build_index, exact_neighbours, fit_knn
from routeiq.training.fitting.space import fit_space
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> KnnEstimator:
    return fit_knn(table, embedding_dimension=estimators.DIMENSION)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, KnnEstimator)


def test_missing_scores_are_neither_zero_nor_fatal() -> None:
    estimators.check_missing_scores(fit)


def test_one_model_constant_scores_and_few_rows() -> None:
    estimators.check_small_and_strange(fit)


def test_the_same_rows_give_the_same_arrays() -> None:
    estimators.check_deterministic(fit)


def test_no_rows_are_refused() -> None:
    empty = estimators.synthetic(5).take(np.empty(0, np.int64))
    with pytest.raises(ValueError, match="no rows"):
        fit(empty)


def test_exact_neighbours_are_scikit_learns_without_the_row_itself() -> None:
    points = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    where, away = exact_neighbours(points, np.arange(80), 5)
    oracle_away, oracle = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)
    assert np.array_equal(where, oracle[:, 1:])
    assert np.sqrt(away) == pytest.approx(oracle_away[:, 1:], abs=1e-3)


def test_the_index_finds_nearly_all_true_neighbours_in_few_cells() -> None:
    known = estimators.synthetic(3000)
    space = fit_space(known.features, embedding_dimension=estimators.DIMENSION)
    points = space.apply(known.features)
    index, order = build_index(known, space, points, 20, seed=0)
    assert len(index.centres) > 40
    assert index.probes < len(index.centres)
    rows = np.arange(0, 3000, 60)
    true, _ = exact_neighbours(points, rows, 20)
    hits = 0
    for row, wanted in zip(rows, true, strict=True):
        where, _ = index.search(points[row], 21)
        hits += len(set(order[where].tolist()) & set(wanted.tolist()))
    assert hits / (20 * len(rows)) > 0.9


def test_row_weights_count() -> None:
    known = estimators.synthetic(300)
    heavy = replace(known, weights=np.where(known.scores[:, 0] > 0.5, 5.0, 1.0).astype(np.float32))
    lifted = fit(heavy).predict(known.features)[:, 0].mean()
    assert lifted > fit(known).predict(known.features)[:, 0].mean() + 0.1
    estimators.check_round_trip(lambda _: fit(heavy), KnnEstimator)
