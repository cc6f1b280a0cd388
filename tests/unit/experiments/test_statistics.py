"""Fixed formulas against other ways to compute them, and what the sequences promise by simulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from routeiq.experiments import statistics as st
from routeiq.experiments.statistics import (
    BEST_AT_BOUNDED,
    BEST_AT_SKEWED,
    MINIMUM,
    Interval,
    Moments,
    deviation,
    difference_sequence,
    mean_sequence,
    significant,
    tuning,
)

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
RUNS, LONG = 400, 6_000
LOOKS = np.unique(np.geomspace(MINIMUM, LONG, 150).astype(int))


def moments(values: Floats) -> Moments:
    whole = np.round(values).astype(np.int64)
    return Moments(n=len(whole), total=int(whole.sum()), squares=int((whole * whole).sum()))


def bernoulli(rng: np.random.Generator, shape: tuple[int, int], p: float) -> Floats:
    return (rng.random(shape) < p).astype(float)


def lognormal(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    return rng.lognormal(0.0, sigma, shape)


def at_looks(draw: Draw, seed: int, bounds: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Count, mean and variance at every look, runs by rows; as `Moments` computes them."""
    values = draw(np.random.default_rng(seed), (RUNS, LONG))
    n = LOOKS + (2.0 if bounds else 0.0)
    total = np.cumsum(values, axis=1)[:, LOOKS - 1] + bounds
    squares = np.cumsum(values * values, axis=1)[:, LOOKS - 1] + bounds * bounds
    mean = total / n
    return n, mean, (squares - total * mean) / (n - 1)


def best_at(bounds: float) -> float:
    return BEST_AT_BOUNDED if bounds else BEST_AT_SKEWED


def radius(n: Floats, kappa: float, alpha: float) -> Floats:
    """`deviation` for arrays; `test_the_simulations_use_the_same_formula` holds them together."""
    wide: Floats = np.sqrt((n + kappa) / n * np.log((n + kappa) / (kappa * alpha * alpha)))
    return wide


def test_the_simulations_use_the_same_formula() -> None:
    for n in (100.0, 5000.0):
        assert radius(np.array([n]), 300.0, 0.05)[0] == pytest.approx(deviation(n, 0.05, 300.0))


def test_moments_are_exact_for_integers_of_any_size() -> None:
    values = np.array([10**9, 10**9 + 1, 10**9 + 2], dtype=np.int64)
    found = Moments(n=3, total=int(values.sum()), squares=sum(int(v) ** 2 for v in values))
    assert found.mean == 10**9 + 1
    assert found.variance == 1.0


def test_bounds_keep_what_never_varied_from_looking_certain() -> None:
    found = Moments(n=100, total=100, squares=100)
    assert found.variance == 0.0
    assert found.with_bounds(0, 1) == Moments(n=102, total=101, squares=101)


def test_the_boundary_is_where_the_normal_mixture_reaches_one_over_alpha() -> None:
    # Oracle: the mixture martingale by numerical integration over effects, rather than in closed form.
    n, alpha, kappa = 700.0, 0.05, 250.0

    def mixture(z: float) -> float:
        def likelihood(effect: float) -> float:
            return exp(effect * z * sqrt(n) - n * effect * effect / 2) * float(
                norm.pdf(effect, scale=1 / sqrt(kappa))
            )

        return float(quad(likelihood, -1.0, 1.0, limit=500)[0])

    z = brentq(lambda z: log(mixture(z)) - log(1 / alpha), 0.5, 8.0)
    assert deviation(n, alpha, kappa) == pytest.approx(z, rel=1e-6)


def test_it_is_tightest_where_it_was_tuned_to_be() -> None:
    at_best = [deviation(1000.0, 0.05, tuning(0.05, best)) for best in (250, 1000, 4000)]
    assert min(at_best) == at_best[1]


def test_nothing_is_said_of_few() -> None:
    few = Moments(n=MINIMUM - 1, total=50, squares=50)
    enough = Moments(n=MINIMUM, total=50, squares=50)
    assert mean_sequence(few, 0.05, BEST_AT_SKEWED) is None
    assert difference_sequence(enough, few, 0.05, BEST_AT_BOUNDED) is None
    assert difference_sequence(few, enough, 0.05, BEST_AT_BOUNDED) is None
    assert mean_sequence(enough, 0.05, BEST_AT_SKEWED) is not None


def test_the_p_value_is_the_alpha_at_which_the_same_boundary_touches_zero() -> None:
    n, kappa = 4000.0, tuning(0.05, BEST_AT_BOUNDED)
    for alpha in (0.2, 0.05, 1e-4):
        z = deviation(n, alpha, kappa)
        assert st._p_value(z * z, n, kappa) == pytest.approx(alpha)
    assert st._p_value(0.0, n, kappa) == 1.0


def test_a_difference_is_significant_exactly_where_its_p_is_below_alpha() -> None:
    rng = np.random.default_rng(4)
    said = set()
    for shift in np.linspace(0.0, 12.0, 40):
        control, arm = (moments(rng.normal(100 + s, 30, 2000)) for s in (0.0, shift))
        found = difference_sequence(arm, control, 0.05, BEST_AT_BOUNDED)
        assert found is not None
        assert found.p is not None
        assert significant(found) == (found.p < 0.05)
        said.add(significant(found))
    assert said == {True, False}


def test_without_variance_what_is_seen_is_what_there_is() -> None:
    two, three = (Moments(n=200, total=200 * v, squares=200 * v * v) for v in (2, 3))
    assert difference_sequence(three, two, 0.05, BEST_AT_BOUNDED) == Interval(
        mean=1, low=1, high=1, p=0.0
    )
    assert difference_sequence(two, two, 0.05, BEST_AT_BOUNDED) == Interval(
        mean=0, low=0, high=0, p=1.0
    )


def test_a_margin_must_be_left_behind_by_the_whole_interval() -> None:
    found = Interval(mean=3.0, low=1.0, high=5.0)
    assert significant(found)
    assert not significant(found, margin=1.0)
    assert significant(Interval(mean=-3.0, low=-5.0, high=-1.5), margin=1.0)


@pytest.mark.parametrize(
    ("draw", "mean", "bounds"),
    [
        (lambda rng, shape: rng.normal(0.0, 1.0, shape), 0.0, 0.0),
        (lambda rng, shape: rng.exponential(1.0, shape), 1.0, 0.0),
        (partial(lognormal, sigma=1.0), exp(0.5), 0.0),
        (partial(bernoulli, p=0.7), 0.7, 1.0),
        (partial(bernoulli, p=0.99), 0.99, 1.0),
    ],
    ids=["normal", "exponential", "lognormal", "thumbs-70%", "thumbs-99%"],
)
def test_a_mean_is_covered_at_every_look_in_95_of_100_runs(
    draw: Draw, mean: float, bounds: float
) -> None:
    n, seen, variance = at_looks(draw, 11, bounds)
    wide = np.sqrt(variance / n) * radius(n, tuning(0.05, best_at(bounds)), 0.05)
    assert (np.abs(seen - mean) <= wide).all(axis=1).mean() >= 0.95


@pytest.mark.parametrize(
    ("draw", "scale", "bounds"),
    [
        (lambda rng, shape: rng.normal(0.0, 1.0, shape), 1.0, 0.0),
        (partial(lognormal, sigma=1.0), 1.0, 0.0),
        (partial(lognormal, sigma=1.5), 2.0, 0.0),
        (partial(bernoulli, p=0.9), 1.0, 1.0),
    ],
    ids=["normal", "lognormal", "lognormal-twice", "thumbs"],
)
@pytest.mark.parametrize("small", [1, 10])
def test_a_difference_is_covered_at_every_look_in_95_of_100_runs(
    draw: Draw, scale: float, bounds: float, small: int
) -> None:
    """Also where one arm has a tenth of the other's traffic."""
    n, arm, arm_variance = at_looks(draw, 12, bounds)
    _, control, control_variance = at_looks(draw, 13, bounds)
    arm, arm_variance = arm * scale, arm_variance * scale * scale
    truth = _mean_of(draw) * (scale - 1.0)
    if small > 1:  # the control at its last look has ten times what the arm has at its tenth part
        keep = np.flatnonzero(LONG // small >= LOOKS)
        later = np.searchsorted(LOOKS, LOOKS[keep] * small).clip(max=len(LOOKS) - 1)
        arm, arm_variance, m = arm[:, keep], arm_variance[:, keep], n[keep]
        control, control_variance, n = control[:, later], control_variance[:, later], n[later]
    else:
        m = n
    variance = arm_variance / m + control_variance / n
    information = 2 * (arm_variance + control_variance) / variance
    wide = np.sqrt(variance) * radius(information, tuning(0.05, best_at(bounds)), 0.05)
    assert (np.abs(arm - control - truth) <= wide).all(axis=1).mean() >= 0.95


def _mean_of(draw: Draw) -> float:
    return float(draw(np.random.default_rng(1), (1, 2_000_000)).mean())


def test_the_arrays_of_the_simulation_are_what_the_function_computes() -> None:
    values = np.random.default_rng(3).lognormal(5.0, 1.0, (2, 900))
    arm, control = moments(values[0]), moments(values[1][:300])
    variance = arm.variance / 900 + control.variance / 300
    information = 2 * (arm.variance + control.variance) / variance
    kappa = tuning(0.05, BEST_AT_BOUNDED)
    wide = sqrt(variance) * radius(np.array([information]), kappa, 0.05)[0]
    found = difference_sequence(arm, control, 0.05, BEST_AT_BOUNDED)
    assert found is not None
    assert found.high - found.mean == pytest.approx(wide)


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(5)
    slow, fast = (moments(rng.lognormal(log(m), 0.8, 20_000)) for m in (1100.0, 1000.0))
    found = difference_sequence(slow, fast, 0.05, BEST_AT_BOUNDED)
    assert found is not None
    assert found.low > 0


def test_looking_all_the_time_at_ordinary_intervals_would_be_wrong() -> None:
    """What all this is for: intervals for one look miss the truth in far more than 5 of 100 runs."""
    n, seen, variance = at_looks(lambda rng, shape: rng.normal(0.0, 1.0, shape), 11)
    assert (np.abs(seen) <= 1.96 * np.sqrt(variance / n)).all(axis=1).mean() < 0.8
