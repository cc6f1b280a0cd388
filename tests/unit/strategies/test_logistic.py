from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.logistic import LogisticEstimator, LogisticStrategy
from routeiq.strategies.numeric import Space
from routeiq.training.fitting.logistic import fit_logistic
from routeiq.training.table import Table
from tests.support import estimators


def estimator() -> LogisticEstimator:
    space = Space(np.array([1.0, 0.0], np.float32), np.array([1.0, 2.0], np.float32), 0)
    return LogisticEstimator(
        ("a", "b"),
        space=space,
        coefficients=np.array([[1.0, 0.0], [0.0, -1.0]], np.float32),
        intercepts=np.array([0.0, 0.5], np.float32),
    )


def test_prediction_on_a_hand_computed_row() -> None:
    # the point is (3 - 1, 2 * 0.75) = (2, 1.5): log odds 2 and 0.5 - 1.5
    out = estimator().predict(np.array([[3.0, 0.75]], np.float32))[0]
    assert out == pytest.approx([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))], abs=1e-6)


def test_explanation_adds_up_to_the_log_odds() -> None:
    shown = estimator().explain(np.array([[3.0, 0.75]], np.float32))["contributions"]
    assert shown["a"]["columns"][0] == {"column": 0, "log_odds": 2.0}
    assert shown["b"]["intercept"] + shown["b"]["columns"][0]["log_odds"] == pytest.approx(-1.0)


def test_a_damaged_artifact_is_refused() -> None:
    def fit(known: Table) -> LogisticEstimator:
        return fit_logistic(known, embedding_dimension=estimators.DIMENSION)

    messages = estimators.check_refuses_damage(fit, LogisticEstimator)
    assert any("coefficients" in message for message in messages)


def test_strategy_takes_this_kind_of_artifact() -> None:
    assert LogisticStrategy.name == "logistic"
    assert LogisticStrategy.estimators == {"logistic": LogisticEstimator}
