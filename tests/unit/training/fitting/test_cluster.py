from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from routeiq.strategies.cluster import Centroids, ClusterEstimator
from routeiq.training.fitting.cluster import find_centres, fit_cluster, fold_sums, nearest, usable
from routeiq.training.fitting.space import fit_space
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> ClusterEstimator:
    return fit_cluster(table, embedding_dimension=estimators.DIMENSION)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, ClusterEstimator)


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


def test_centres_and_assignments_are_scikit_learns() -> None:
    known = estimators.synthetic(300)
    space = fit_space(known.features, embedding_dimension=estimators.DIMENSION)
    oracle = KMeans(6, n_init=1, max_iter=50, random_state=3).fit(space.apply(known.features))
    centres = find_centres(known, space, 6, seed=3)
    assert centres == pytest.approx(oracle.cluster_centers_.astype(np.float32), abs=1e-5)
    centroids = Centroids(space, centres, 1, 1.0)
    assert np.array_equal(nearest(known.features, centroids), oracle.labels_)


def test_sums_on_a_hand_computed_table() -> None:
    scores = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 0.5]], np.float32)
    known = estimators.table(np.zeros((3, 2), np.float32), scores)
    mean = np.array([0.5, 0.5], np.float32)
    sums = fold_sums(known, mean, np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    # cluster 0: model 0 has +0.5 and -0.5, model 1 has +0.5 once; cluster 1: +0.5 and 0
    assert sums.table(0.0)[0] == pytest.approx([0.0, 0.5])
    assert sums.table(1.0)[0] == pytest.approx([0.0, 0.25])
    assert sums.table(1.0)[1] == pytest.approx([0.25, 0.0])
    assert sums.table(1.0, without=1)[0] == pytest.approx([0.25, 0.0])
    assert sums.rows.tolist() == [2, 1]


def test_few_rows_get_few_clusters() -> None:
    assert usable((16, 64), 1000) == [16, 64]
    assert usable((16, 64), 200) == [16, 20]
    assert usable((16, 64), 3) == [1]
