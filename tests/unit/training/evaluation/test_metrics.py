"""Figures of merit against hand-computed cases and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from routeiq.training.evaluation.metrics import (
    Anchors,
    arena_score,
    auc,
    brier,
    calibration,
    curve_metrics,
    model_figures,
    prediction_metrics,
)
from routeiq.training.evaluation.outcomes import outcomes


def test_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    predicted = np.round(rng.random(500), 1)  # many ties
    scores = (rng.random(500) < predicted).astype(float)
    assert auc(predicted, scores) == pytest.approx(roc_auc_score(scores, predicted))
    scores[:100] = np.nan
    assert auc(predicted, scores) == pytest.approx(roc_auc_score(scores[100:], predicted[100:]))


def test_auc_of_one_kind_of_answer_is_unknown() -> None:
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([1.0, 1.0])))


def test_calibration_error_by_hand() -> None:
    # bin 0.1: mean prediction 0.15, mean score 0.5; bin 0.9: 0.95 and 1.0
    found = calibration(np.array([0.1, 0.2 - 1e-9, 0.95]), np.array([0.0, 1.0, 1.0]))
    assert found.count.tolist() == [2.0, 1.0]
    assert found.error == pytest.approx((2 * 0.35 + 1 * 0.05) / 3)
    assert calibration(np.array([1.0, 0.0]), np.array([1.0, 0.0])).error == 0.0


def test_brier_leaves_out_what_is_missing() -> None:
    assert brier(np.array([0.5, 0.0, 0.3]), np.array([1.0, 0.0, np.nan])) == pytest.approx(0.125)
    assert np.isnan(brier(np.array([0.5]), np.array([np.nan])))


def test_curve_figures_by_hand() -> None:
    at = Anchors(quality=0.6, cost=4.0, cheapest=1.0, oracle=0.9)
    found = curve_metrics(np.array([0.7, 0.6, 0.4]), np.array([3.0, 2.0, 1.0]), at)
    assert found["accuracy"] == 0.7
    assert found["gain"] == pytest.approx(0.1)
    assert found["oracle_gap"] == pytest.approx(0.2 / 0.9)
    assert found["cost_usd_per_1k"] == 3000.0
    assert found["saved"] == pytest.approx(0.5)  # 0.6 is reached at 2 of 4 USD
    assert found["perf_gain"] == pytest.approx(0.7 / 0.6 - 1.0)
    assert found["aiq"] == pytest.approx((0.5 + 0.65 + 0.7) / 3.0)
    assert found["at_10"] == pytest.approx(0.16)  # 0.4 of the way to the first point
    assert found["at_25"] == pytest.approx(0.4)
    assert found["at_100"] == 0.7


def test_never_reached_is_not_zero_saved() -> None:
    at = Anchors(quality=0.8, cost=4.0, cheapest=1.0, oracle=0.9)
    assert np.isnan(curve_metrics(np.array([0.7]), np.array([3.0]), at)["saved"])


def test_without_costs_no_cost_figures() -> None:
    at = Anchors(quality=0.6, cost=0.0, cheapest=0.0, oracle=0.9)
    found = curve_metrics(np.array([0.7]), np.array([0.0]), at, priced=False)
    assert set(found) == {"accuracy", "gain", "oracle_gap"}


def test_arena_score_is_that_of_the_leaderboard() -> None:
    # GPT-5 alone there: accuracy 73.96 %, 10.02 USD per 1,000, score 64.32
    assert arena_score(0.7396, 10.02) == pytest.approx(0.6432, abs=2e-4)
    assert arena_score(0.6688, 0.15) == pytest.approx(0.6689, abs=5e-3)
    assert arena_score(0.5, 1e9) == 0.0


def test_figures_per_model_and_of_predictions() -> None:
    data = outcomes(("a", "b"), np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 1.0]]), np.ones((3, 2)))
    q = np.array([[0.9, 0.2], [0.6, 0.5], [0.9, 0.1]])
    figures = model_figures(q, data)
    assert [each.rows for each in figures] == [2, 3]
    assert [each.share for each in figures] == pytest.approx([2 / 3, 1 / 3])
    assert figures[0].accuracy == 0.5
    found = prediction_metrics(figures, q, data)
    assert found["regret"] == pytest.approx(1 / 3)  # only the second row lost something
    assert found["auc"] == pytest.approx((1.0 + 0.5) / 2)
