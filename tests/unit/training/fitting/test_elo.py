from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from routeiq.strategies.elo import EloEstimator
from routeiq.training.fitting.elo import bradley_terry, count_wins, fit_elo
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> EloEstimator:
    return fit_elo(table, embedding_dimension=estimators.DIMENSION)


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, EloEstimator)


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


def test_bradley_terry_of_two_models_is_the_log_odds_of_the_wins() -> None:
    wins = np.array([[0.0, 30.0], [10.0, 0.0]])
    ratings = bradley_terry(wins, np.zeros(2), 1e-9)
    assert ratings[0] - ratings[1] == pytest.approx(np.log(3.0), abs=1e-6)


def test_bradley_terry_recovers_ratings_and_stays_where_nothing_was_played() -> None:
    truth = np.array([1.0, 0.2, -1.2])
    p = 1.0 / (1.0 + np.exp(truth - truth[:, None]))
    wins = 1000.0 * p * (1.0 - np.eye(3))
    assert bradley_terry(wins, np.zeros(3), 1e-6) == pytest.approx(truth, abs=1e-4)
    assert bradley_terry(np.zeros((3, 3)), truth, 5.0) == pytest.approx(truth)


def test_bradley_terry_is_scikit_learns_logistic_regression_on_battles() -> None:
    wins = np.array([[0.0, 6.0, 9.0], [4.0, 0.0, 7.0], [1.0, 3.0, 0.0]])
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    design = np.array([np.eye(3)[a] - np.eye(3)[b] for a, b in pairs])
    design = np.concatenate([design, -design])
    labels = np.repeat([1, 0], len(pairs))
    weight = np.tile([wins[a, b] for a, b in pairs], 2) / 2.0
    oracle = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10)
    oracle.fit(design, labels, sample_weight=weight)
    assert bradley_terry(wins, np.zeros(3), 1.0) == pytest.approx(oracle.coef_[0], abs=1e-4)


def test_wins_on_a_hand_computed_table() -> None:
    scores = np.array([[1.0, 0.0, np.nan], [0.5, 1.0, 1.0]], np.float32)
    known = estimators.table(
        np.zeros((2, 2), np.float32), scores, np.array([[0, 2, 0, 1.0]], np.float32)
    )
    wins = count_wins(known, np.array([0, 1]), np.array([0, 0]), 2)[0]
    # row 0: model 0 beats 1 outright; by preference model 2 beats 0
    assert wins[0].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    # row 1: 0.5 against 1 is a quarter of a win; 1 against 1 is half
    assert wins[1].tolist() == [[0, 0.25, 0.25], [0.75, 0, 0.5], [0.75, 0.5, 0]]


def test_preferences_alone_give_the_probability_to_beat_the_others() -> None:
    known, new = estimators.synthetic(900, seed=0), estimators.synthetic(400, seed=1)
    battles = [
        (row, a, b, 0.5 + (s[a] - s[b]) / 2.0)
        for row, s in enumerate(known.scores.tolist())
        for a, b in ((0, 1), (1, 2), (0, 2))
    ]
    unknown = np.full_like(known.scores, np.nan)
    prefs = np.array(battles, np.float32)
    quality = estimators.predicted(
        fit(estimators.table(known.features, unknown, prefs)), new.features
    )
    best_single = float(new.scores.mean(axis=0).max())
    assert estimators.accuracy(quality, new.scores) > best_single + 0.15
    assert quality.mean() == pytest.approx(0.5, abs=0.05)  # somebody wins, somebody loses
