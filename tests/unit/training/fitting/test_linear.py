from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from routeiq.training.fitting.linear import Loss, Penalty, choose_penalty, fit_line
from tests.support import estimators

ONES = np.ones(400, np.float32)
INDEPENDENT = Penalty(shared=1e9, own=2.0)
"""Nothing can be shared, so that each model's fit is the textbook's."""


def data() -> tuple[estimators.Matrix, estimators.Matrix]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 5)).astype(np.float32)
    truth = rng.normal(size=(5, 2))
    scores = rng.random((400, 2)) < 1.0 / (1.0 + np.exp(-(z @ truth + [0.5, -1.0])))
    return z, scores.astype(np.float32)


def test_logistic_is_scikit_learns() -> None:
    z, scores = data()
    line = fit_line(z, scores, ONES, INDEPENDENT)
    for m in range(2):
        oracle = LogisticRegression(C=0.5, tol=1e-8).fit(z, scores[:, m])
        assert line.coefficients[:, m] == pytest.approx(oracle.coef_[0], abs=5e-3)
        assert line.intercepts[m] == pytest.approx(oracle.intercept_[0], abs=5e-3)


def test_squared_hinge_is_scikit_learns() -> None:
    z, scores = data()
    line = fit_line(z, scores, ONES, INDEPENDENT, loss="squared_hinge")
    for m in range(2):
        # LinearSVC penalises its intercept too; a large scaling of it makes that vanish
        oracle = LinearSVC(C=1.0, tol=1e-8, max_iter=100_000, intercept_scaling=30.0)
        oracle.fit(z, scores[:, m])
        assert line.coefficients[:, m] == pytest.approx(oracle.coef_[0], abs=1e-2)
        assert line.intercepts[m] == pytest.approx(oracle.intercept_[0], abs=1e-2)


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_a_soft_label_is_a_share_of_a_win_and_of_a_loss(loss: Loss) -> None:
    z = np.array([[-1.0], [0.5], [2.0]], np.float32)
    soft = np.array([[0.25], [0.5], [1.0]], np.float32)
    twice = np.concatenate([z, z])
    hard = np.concatenate([np.ones_like(soft), np.zeros_like(soft)])
    weights = np.concatenate([soft, 1.0 - soft])[:, 0]
    one = fit_line(z, soft, np.ones(3, np.float32), Penalty(shared=1.0, own=1.0), loss=loss)
    other = fit_line(twice, hard, weights, Penalty(shared=1.0, own=1.0), loss=loss)
    assert one.coefficients == pytest.approx(other.coefficients, abs=1e-3)


def test_missing_scores_are_as_if_the_row_were_not_there() -> None:
    z, scores = data()
    holes = scores.copy()
    holes[:200, 0] = np.nan
    line = fit_line(z, holes, ONES, INDEPENDENT)
    short = fit_line(z[200:], scores[200:], ONES[200:], INDEPENDENT)
    assert line.coefficients[:, 0] == pytest.approx(short.coefficients[:, 0], abs=5e-3)


def test_a_model_without_labels_learns_from_the_others() -> None:
    z, scores = data()
    scores[:, 1] = np.nan
    line = fit_line(z, scores, ONES, Penalty(shared=1.0, own=10.0))
    seen, unseen = line.coefficients[:, 0], line.coefficients[:, 1]
    assert np.corrcoef(seen, unseen)[0, 1] > 0.99
    assert np.abs(unseen).max() > 0.3


def test_the_penalty_that_predicts_best_is_chosen_and_calibrated() -> None:
    known = estimators.synthetic(300)
    tries = [Penalty(shared=p, own=p) for p in (1e6, 1.0)]
    chosen = choose_penalty(known.features, known, tries, seed=0)
    assert chosen.penalty == tries[1]
    line = fit_line(known.features, known.scores, known.weights, chosen.penalty)
    coefficients, intercepts = chosen.calibrated(line)
    p = 1.0 / (1.0 + np.exp(-(known.features @ coefficients + intercepts)))
    assert p.mean(axis=0) == pytest.approx(known.scores.mean(axis=0), abs=0.03)
