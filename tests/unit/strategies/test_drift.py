from __future__ import annotations

from random import Random

import pytest

from routeiq.strategies.drift import PRIOR, SLACK, THRESHOLD, DriftTest


def delay(test: DriftTest, success: float, predicted: float, *, most: int, seed: int) -> int | None:
    random = Random(seed)
    for at in range(1, most + 1):
        if test.add((random.random() < success) - predicted) is not None:
            return at
    return None


def test_sums_and_bias_by_hand() -> None:
    test = DriftTest()
    assert test.add(-0.8) is None
    bias = -0.8 / (1 + PRIOR)
    assert test.bias == pytest.approx(bias)
    assert test.level == pytest.approx((0.8 - SLACK) / THRESHOLD)
    assert test.add(0.2) is None
    assert test.bias == pytest.approx(bias + (0.2 - bias) / (2 + PRIOR))
    assert test.level == pytest.approx((0.8 - SLACK - 0.2 + bias - SLACK) / THRESHOLD)


def test_constant_worst_outcomes_raise_the_alarm_and_say_which_way() -> None:
    for sign, way in ((-1.0, "worse"), (1.0, "better")):
        test = DriftTest()
        found = [test.add(sign * 0.7) for _ in range(12)]
        assert [one for one in found if one] == [way] * len([one for one in found if one])
        first = next(at for at, one in enumerate(found, 1) if one)
        assert first == 10  # 9 would do at 0.55 each, but part of it is taken for the bias


def calm(outcomes: int) -> DriftTest:
    """A test that has seen a well predicted model for a while; 13 of 20 answers are good, as predicted."""
    test = DriftTest()
    for number in range(outcomes):
        assert test.add(float(number * 7 % 20 < 13) - 0.65) is None
    return test


def test_a_loss_of_forty_percent_is_found_within_a_hundred_outcomes() -> None:
    delays = [delay(calm(500), 0.39, 0.65, most=1000, seed=seed) or 1000 for seed in range(50)]
    assert sorted(delays)[25] < 60
    assert sorted(delays)[45] < 150


def test_calm_models_seldom_raise_it() -> None:
    alarms = [delay(calm(500), 0.65, 0.65, most=500, seed=seed) for seed in range(50)]
    assert sum(one is not None for one in alarms) <= 12


def test_a_constant_bias_of_the_prediction_is_learnt_not_reported() -> None:
    test = DriftTest()
    assert all(test.add(float(n % 10 < 6) - 0.72) is None for n in range(3000))
    assert test.bias == pytest.approx(-0.12, abs=0.02)


def test_restart_forgets_the_sums_and_state_keeps_them() -> None:
    test = DriftTest()
    for _ in range(3):
        test.add(-0.9)
    again = DriftTest()
    again.restore(test.state())
    assert again.state() == test.state()
    assert again.add(-0.9) == test.add(-0.9)
    test.restart(-0.3)
    assert (test.bias, test.level) == (-0.3, 0.0)
