from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import beta, betabinom, binom

from routeiq.experiments.sequential import evidence_of, share_difference, share_sequence


@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 10, 0.2), (3, 10, 0.2), (10, 10, 0.9), (7, 900, 0.01)]
)
def test_the_evidence_is_the_mixture_over_the_binomial(k: int, n: int, p: float) -> None:
    expected = betabinom.logpmf(k, n, 0.5, 0.5) - binom.logpmf(k, n, p)
    assert evidence_of(k, n)(p) == pytest.approx(expected, rel=1e-9)


def test_bounds_are_where_the_evidence_reaches_one_over_alpha() -> None:
    found = share_sequence(30, 1000, 0.05)
    assert found is not None
    assert found.low < found.mean == 0.03 < found.high
    for bound in (found.low, found.high):
        assert evidence_of(30, 1000)(bound) == pytest.approx(log(20), abs=1e-6)


def test_it_is_wider_than_an_interval_for_one_look_but_not_by_much() -> None:
    found = share_sequence(300, 10_000, 0.05)
    assert found is not None
    single = beta.ppf([0.025, 0.975], [300, 301], [9701, 9700])
    assert found.low < single[0]
    assert found.high > single[1]
    assert (found.high - found.low) / (single[1] - single[0]) < 2


def test_no_failures_and_nothing_but_failures() -> None:
    none, every = share_sequence(0, 100, 0.05), share_sequence(100, 100, 0.05)
    assert none is not None
    assert every is not None
    assert (none.low, every.high) == (0.0, 1.0)
    assert 0 < none.high < 0.1
    assert every.low == pytest.approx(1 - none.high)


def test_nothing_is_said_of_none() -> None:
    assert share_sequence(0, 0, 0.05) is None
    assert share_difference(0, 0, 1, 10, 0.05) is None
    assert share_difference(1, 10, 0, 0, 0.05) is None


@pytest.mark.parametrize("p", [0.5, 0.05, 0.002])
def test_a_share_is_covered_at_every_look_in_95_of_100_runs(p: float) -> None:
    rng = np.random.default_rng(8)
    n = np.arange(1, 4001)
    k = np.cumsum(rng.random((500, 4000)) < p, axis=1)
    gamma = gammaln(np.arange(4001) + 0.5)  # looked up: millions are needed, few differ
    mixed = gamma[k] + gamma[n - k] - gammaln(n + 1) - np.log(np.pi)
    evidence = mixed - k * np.log(p) - (n - k) * np.log1p(-p)
    assert evidence[0, 99] == pytest.approx(evidence_of(int(k[0, 99]), 100)(p))
    assert (evidence < log(20)).all(axis=1).mean() >= 0.95


def test_a_difference_is_exactly_as_significant_as_its_p_value_says() -> None:
    said = set()
    for failures in range(30, 90):
        found = share_difference(failures, 1000, 30, 1000, 0.05)
        assert found is not None
        assert found.p is not None
        assert (found.low > 0) == (found.p < 0.05), failures
        said.add(found.low > 0)
    assert said == {True, False}


def test_differences_are_signed_and_symmetric() -> None:
    up, down = share_difference(80, 500, 10, 600, 0.05), share_difference(10, 600, 80, 500, 0.05)
    assert up is not None
    assert down is not None
    assert up.mean == -down.mean > 0
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))
    assert up.p == pytest.approx(down.p)
    same = share_difference(5, 50, 10, 100, 0.05)
    assert same is not None
    assert same.p == 1.0
