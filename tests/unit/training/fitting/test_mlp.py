from __future__ import annotations

import pytest

from routeiq.strategies.mlp import MlpEstimator
from routeiq.training.fitting.mlp import fit_mlp
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> MlpEstimator:
    return fit_mlp(table, folds=2)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, MlpEstimator)


def test_damaged_artifacts_are_refused() -> None:
    messages = estimators.check_refuses_damage(fit, MlpEstimator)
    assert all("train it again" in message for message in messages)


def test_missing_scores_are_neither_zero_nor_fatal() -> None:
    estimators.check_missing_scores(fit)


def test_one_model_constant_scores_and_few_rows() -> None:
    estimators.check_small_and_strange(fit)


@pytest.mark.parametrize("rows", [10, 50, 200])
def test_few_rows_do_not_run_wild(rows: int) -> None:
    new = estimators.synthetic(600, seed=1)
    quality = estimators.predicted(fit(estimators.synthetic(rows, seed=20)), new.features)
    assert float(((quality - new.scores) ** 2).mean()) < 0.30


def test_the_same_rows_give_the_same_arrays() -> None:
    estimators.check_deterministic(fit)
