from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from routeiq.training.fitting.stacking import Stack, fit_stack, non_negative

RATES = np.array([0.5, 0.3, 0.4])
ROWS = 4000


def parts_and_scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The truth, and two parts: the truth with noise in its levels, pure noise."""
    rng = np.random.default_rng(seed)
    truth = RATES + rng.normal(0.0, 0.1, (ROWS, 3))
    good = truth + rng.normal(0.0, 0.3, (ROWS, 1))
    bad = RATES + rng.normal(0.0, 0.2, (ROWS, 3))
    return np.stack([good, bad]).astype(np.float32), truth.astype(np.float32)


def test_non_negative_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        a, b = rng.normal(size=(30, 4)), rng.normal(size=30)
        assert np.allclose(non_negative(a.T @ a, a.T @ b), nnls(a, b)[0], atol=1e-6)


def test_mixing_by_hand() -> None:
    # differences weigh 0.5, levels 1: deviations (0.3, 0, 0) have level 0.1, differences (0.2, -0.1, -0.1)
    stack = Stack(differences=np.array([0.5]), levels=np.array([1.0]), rates=RATES)
    found = stack((RATES + np.array([0.3, 0.0, 0.0]))[None, None].astype(np.float32))
    assert np.allclose(found, RATES + 0.1 + 0.5 * np.array([0.2, -0.1, -0.1]), atol=1e-6)


def test_differences_and_levels_are_weighted_apart() -> None:
    parts, scores = parts_and_scores()
    stack = fit_stack(parts, scores, np.ones(ROWS, np.float32), RATES, pull=1e-3)
    assert stack.differences[0] > 0.95  # the good part's differences are the truth
    assert stack.levels[0] < 0.2  # its levels are mostly noise: variance 0.01 / 3 of 0.09
    assert max(stack.differences[1], stack.levels[1]) < 0.05


def test_missing_scores_and_rows_without_weight_do_not_count() -> None:
    parts, scores = parts_and_scores()
    holes = scores.copy()
    holes[::2, 0] = np.nan
    weights = np.ones(ROWS, np.float32)
    weights[1::4] = 0.0
    holes[1::4] = 99.0
    found = fit_stack(parts, holes, weights, RATES, pull=1e-3)
    assert found.differences[0] > 0.9


def test_few_rows_stay_near_equal_weights() -> None:
    parts, scores = parts_and_scores()
    few = fit_stack(parts[:, :20], scores[:20], np.ones(20, np.float32), RATES)
    many = fit_stack(parts, scores, np.ones(ROWS, np.float32), RATES)
    assert abs(few.differences[0] - few.differences[1]) < abs(
        many.differences[0] - many.differences[1]
    )


def test_without_learning_weights_are_equal_and_noise_is_shrunk_away() -> None:
    rng = np.random.default_rng(3)
    parts, scores = parts_and_scores()
    noise = (RATES + rng.normal(0, 0.2, parts.shape)).astype(np.float32)
    ones = np.ones(ROWS, np.float32)
    found = fit_stack(noise, scores, ones, RATES, learn=False)
    assert found.differences[0] == found.differences[1] < 0.05
    assert fit_stack(parts[:1], scores, ones, RATES, learn=False).differences[0] > 0.9


def test_nothing_known_means_equal_weights() -> None:
    parts, scores = parts_and_scores()
    nothing = np.full_like(scores, np.nan)
    found = fit_stack(parts, nothing, np.ones(ROWS, np.float32), RATES)
    assert found.differences.tolist() == found.levels.tolist() == [0.5, 0.5]
