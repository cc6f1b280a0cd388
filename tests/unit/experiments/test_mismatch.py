from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial, multinomial

from routeiq.experiments.mismatch import ALPHA, log_e_value, split_of

EVEN = {"a": 1.0, "b": 1.0}


def test_the_e_value_is_the_dirichlet_multinomial_over_the_multinomial() -> None:
    counts, shares = {"a": 40, "b": 25, "c": 35}, {"a": 0.5, "b": 0.2, "c": 0.3}
    numbers, p = list(counts.values()), np.array(list(shares.values()))
    expected = dirichlet_multinomial.logpmf(numbers, 100 * p, 100) - multinomial.logpmf(
        numbers, 100, p
    )
    assert log_e_value(counts, shares) == pytest.approx(expected)


def evidence(
    rng: np.random.Generator, share: float, runs: int, n: int, copies: int = 1
) -> np.ndarray:
    """Logarithm of the e-value against half and half after each draw, runs by rows."""
    k = np.cumsum(rng.random((runs, n)) < share, axis=1) * copies
    total = np.arange(1, n + 1) * copies
    gamma = gammaln(np.arange(1, 100 + total[-1] + 1))  # looked up: millions are needed, few differ
    mixed = gamma[49 + k] + gamma[49 + total - k] - gamma[99 + total]
    found: np.ndarray = mixed - 2 * gammaln(50.0) + gammaln(100.0) + total * log(2)
    return found


def test_false_alarms_are_rare_although_somebody_looks_after_each_draw() -> None:
    found = evidence(np.random.default_rng(1), 0.5, 600, 3000)
    assert found[0, 999] == pytest.approx(_value_at(found, 1000))
    assert (found >= log(1 / ALPHA)).any(axis=1).mean() <= ALPHA
    assert (found >= log(1 / 0.05)).any(axis=1).mean() <= 0.05


def _value_at(found: np.ndarray, n: int) -> float:
    k = int((np.random.default_rng(1).random((600, 3000)) < 0.5)[0, :n].sum())
    return log_e_value({"a": k, "b": n - k}, {"a": 0.5, "b": 0.5})


def test_55_against_45_is_found() -> None:
    found = evidence(np.random.default_rng(2), 0.55, 200, 5000) >= log(1 / ALPHA)
    assert found.any(axis=1).mean() > 0.99
    assert np.median(found.argmax(axis=1)) < 2000


def test_subjects_that_each_worker_counts_raise_no_false_alarm() -> None:
    """Eight workers that count every subject once each: eight times the draws, but not the information."""
    whole = evidence(np.random.default_rng(3), 0.5, 300, 3000, copies=8)
    assert (whole >= log(1 / ALPHA)).any(
        axis=1
    ).mean() > 0.2  # what it would be if they were independent
    k = np.cumsum(np.random.default_rng(3).random((300, 3000)) < 0.5, axis=1)[:, -1]
    alarms = [
        split_of({"a": 8 * int(x), "b": 8 * (3000 - int(x))}, EVEN, multiplicity=8).mismatch
        for x in k
    ]
    assert np.mean(alarms) <= ALPHA


def test_nothing_drawn_is_no_mismatch() -> None:
    found = split_of({}, EVEN)
    assert (found.draws, found.p, found.mismatch, found.deviation, found.deviates) == (
        0,
        1,
        False,
        0,
        False,
    )
    assert found.e_value == pytest.approx(1.0)


def test_a_variant_without_weight_should_have_nobody() -> None:
    weights = {"a": 1.0, "b": 0.0}
    assert not split_of({"a": 1000}, weights).mismatch
    found = split_of({"a": 1000, "b": 1}, weights)
    assert found.p == 0.0
    assert found.mismatch
    assert 0 < found.e_value < inf  # JSON has no infinity


def test_weights_are_proportions() -> None:
    assert not split_of({"a": 7500, "b": 2500}, {"a": 3, "b": 1}).mismatch
    found = split_of({"a": 7000, "b": 3000}, {"a": 3, "b": 1})
    assert found.mismatch
    assert found.deviation == pytest.approx(0.2)


def test_it_deviates_above_a_tenth_but_only_where_chance_cannot_explain_it() -> None:
    assert split_of({"a": 5600, "b": 4400}, EVEN).deviates
    assert not split_of({"a": 5400, "b": 4600}, EVEN).deviates
    assert split_of({"a": 5, "b": 4}, EVEN).minimum == 901
    assert not split_of({"a": 499, "b": 401}, EVEN).deviates
    assert split_of({"a": 500, "b": 401}, EVEN).deviates
    assert split_of({}, {"a": 99, "b": 1}).minimum == 89_101


def test_p_and_e_say_the_same() -> None:
    found = split_of({"a": 600, "b": 400}, EVEN)
    assert found.p == pytest.approx(1 / found.e_value)
    assert found.e_value == pytest.approx(
        exp(log_e_value({"a": 600, "b": 400}, {"a": 0.5, "b": 0.5}))
    )
