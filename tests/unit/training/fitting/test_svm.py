from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from routeiq.strategies.svm import Landmarks, SvmEstimator
from routeiq.training.fitting.space import fit_space
from routeiq.training.fitting.svm import fit_svm, nystroem
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> SvmEstimator:
    return fit_svm(table, embedding_dimension=estimators.DIMENSION)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, SvmEstimator)


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


def test_nystroem_features_reproduce_the_kernel_at_the_landmarks() -> None:
    known = estimators.synthetic(40)
    space = fit_space(known.features, embedding_dimension=estimators.DIMENSION)
    marks = Landmarks(space, space.apply(known.features), 0.7)
    kernel = marks.kernel(known.features)
    mapped = kernel @ nystroem(marks)
    assert mapped @ mapped.T == pytest.approx(kernel, abs=0.02)


def test_kernel_is_scikit_learns() -> None:
    known = estimators.synthetic(30)
    space = fit_space(known.features, embedding_dimension=estimators.DIMENSION)
    z = space.apply(known.features)
    oracle = rbf_kernel(z, z[:7], gamma=0.7)
    assert Landmarks(space, z[:7], 0.7).kernel(known.features) == pytest.approx(oracle, abs=1e-5)
