from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.numeric import Space
from routeiq.strategies.svm import Landmarks, SvmEstimator, SvmStrategy
from routeiq.training.fitting.svm import fit_svm
from routeiq.training.table import Table
from tests.support import estimators


def estimator() -> SvmEstimator:
    space = Space(np.zeros(2, np.float32), np.ones(2, np.float32), 0)
    points = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    return SvmEstimator(
        ("a", "b"),
        landmarks=Landmarks(space, points, 0.5),
        coefficients=np.array([[2.0, 0.0], [0.0, 4.0]], np.float32),
        intercepts=np.array([-1.0, 0.0], np.float32),
    )


def test_prediction_on_a_hand_computed_row() -> None:
    # kernel values: exp(-0.5 * 0) and exp(-0.5 * 2)
    out = estimator().predict(np.array([[0.0, 0.0]], np.float32))[0]
    odds = np.array([2.0 - 1.0, 4.0 * np.exp(-1.0)])
    assert out == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)


def test_explanation_lists_the_nearest_landmark_first() -> None:
    shown = estimator().explain(np.array([[0.9, 1.0]], np.float32))
    assert [one["landmark"] for one in shown["landmarks"]] == [1, 0]
    assert set(shown["log_odds"]) == {"a", "b"}


def test_a_damaged_artifact_is_refused() -> None:
    def fit(known: Table) -> SvmEstimator:
        return fit_svm(known, embedding_dimension=estimators.DIMENSION)

    messages = estimators.check_refuses_damage(fit, SvmEstimator)
    assert any("landmarks" in message for message in messages)


def test_strategy_takes_this_kind_of_artifact() -> None:
    assert SvmStrategy.name == "svm"
    assert SvmStrategy.estimators == {"svm": SvmEstimator}
