from __future__ import annotations

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge as Oracle
from sklearn.metrics.pairwise import rbf_kernel

from routeiq.training.fitting.kernel_ridge import Landmarks, Ridge, gaussian, solve_outcomes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
Y = np.sin(X[:, :2]).astype(np.float64) + 0.1 * RNG.normal(size=(60, 2))
ONES = np.ones(60, np.float32)


def test_gaussian_agrees_with_scikit_learn() -> None:
    assert np.allclose(gaussian(X, X[:7], 0.4), rbf_kernel(X, X[:7], gamma=0.4), atol=1e-5)


def test_landmarks_at_all_rows_reproduce_the_kernel() -> None:
    f = Landmarks.choose(X, 60, 0.4, 0).features(X)
    assert np.allclose(f @ f.T, rbf_kernel(X, gamma=0.4), atol=1e-2)


def test_solution_agrees_with_scikit_learn_at_the_chosen_penalty() -> None:
    found = Ridge(X, ONES).solve(Y[:, :1])
    fits = [Oracle(alpha=a).fit(X, Y[:, 0]) for a in np.logspace(-1.5, 3.0, 13)]
    nearest = min(np.abs(o.coef_ - found.coefficients[:, 0]).max() for o in fits)
    assert nearest < 1e-5


def test_left_out_predictions_are_those_of_fits_without_the_row() -> None:
    found = Ridge(X, ONES).solve(Y[:, :1])
    alphas = np.logspace(-1.5, 3.0, 13)
    alpha = min(
        alphas,
        key=lambda a: np.abs(
            Oracle(alpha=a).fit(X, Y[:, 0]).coef_ - found.coefficients[:, 0]
        ).max(),
    )
    for row in (0, 17, 59):
        rest = np.arange(60) != row
        without = Oracle(alpha=alpha).fit(X[rest], Y[rest, 0]).predict(X[row : row + 1])
        assert abs(float(without[0]) - float(found.left_out[row, 0])) < 5e-3


def test_weights_count_like_repeated_rows() -> None:
    twice = np.concatenate([X, X[:10]])
    weights = np.where(np.arange(60) < 10, 2.0, 1.0).astype(np.float32)
    weighted = Ridge(X, weights)
    repeated = Ridge(twice, np.ones(70, np.float32))
    assert np.allclose(weighted._mean, repeated._mean, atol=1e-6)


def test_kernel_regression_is_about_as_good_as_scikit_learns() -> None:
    f = Landmarks.choose(X, 60, 0.4, 0).features(X)
    ours = float(((Ridge(f, ONES).solve(Y).left_out - Y) ** 2).mean())
    theirs = []
    for row in range(0, 60, 6):
        rest = np.arange(60) != row
        fit = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.4).fit(X[rest], Y[rest])
        theirs.append(((fit.predict(X[row : row + 1]) - Y[row]) ** 2).mean())
    assert ours < 2.0 * float(np.mean(theirs))


def test_gaps_are_left_out_and_rare_models_follow_the_common_difficulty() -> None:
    scores = np.clip(0.5 + 0.3 * Y, 0, 1).astype(np.float32)
    third = np.full((60, 1), np.nan, np.float32)
    third[:5] = 0.9
    holes = np.concatenate([scores, third], axis=1)
    holes[::3, 0] = np.nan
    found = solve_outcomes(X, holes, ONES, Ridge(X, ONES))
    predicted = found(X)
    assert np.isfinite(predicted).all()
    assert np.corrcoef(predicted[::3, 0], scores[::3, 0])[0, 1] > 0.5
    assert predicted[:, 2].mean() > 0.6
