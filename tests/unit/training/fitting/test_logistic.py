from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.logistic import LogisticEstimator
from routeiq.training.fitting.logistic import fit_logistic
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> LogisticEstimator:
    return fit_logistic(table, embedding_dimension=estimators.DIMENSION)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, LogisticEstimator)


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


def test_harder_penalty_is_available_and_flattens() -> None:
    known = estimators.synthetic(300)
    flat = fit_logistic(known, embedding_dimension=estimators.DIMENSION, penalties=(1e7,))
    assert flat.predict(known.features).std(axis=0).max() < 0.5 * (
        fit(known).predict(known.features).std(axis=0).max()
    )
