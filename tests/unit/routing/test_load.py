from __future__ import annotations

import pytest

from routeiq.routing.load import SMOOTHING, STALE_AFTER_S, LoadTracker
from tests.support.clock import FakeClock


def test_in_flight_follows_started_and_finished(clock: FakeClock) -> None:
    load = LoadTracker(clock)
    load.started("a")
    load.started("a")
    load.finished("a")
    assert load.of("a").in_flight == 1
    assert load.of("b").in_flight == 0


def test_latency_is_an_exponentially_weighted_mean(clock: FakeClock) -> None:
    load = LoadTracker(clock)
    for seconds in (1.0, 2.0):
        load.started("a")
        load.finished("a", seconds)
    expected = 1.0 + SMOOTHING * (2.0 - 1.0)
    assert load.of("a").expected_s(clock.monotonic(), stream=False) == pytest.approx(expected)


def test_streams_are_judged_by_first_token_and_others_by_whole_answer(clock: FakeClock) -> None:
    load = LoadTracker(clock)
    now = clock.monotonic()
    load.first_token("a", 0.2)
    assert load.of("a").expected_s(now, stream=False) == 0.2  # the best that is known
    load.finished("a", 3.0)
    assert load.of("a").expected_s(now, stream=True) == 0.2
    assert load.of("a").expected_s(now, stream=False) == 3.0


def test_unmeasured_and_failed_calls_say_nothing(clock: FakeClock) -> None:
    load = LoadTracker(clock)
    load.started("a")
    load.finished("a")
    assert load.of("a").expected_s(clock.monotonic(), stream=True) is None


def test_stale_measurements_are_forgotten_not_averaged(clock: FakeClock) -> None:
    load = LoadTracker(clock)
    load.first_token("a", 9.0)
    clock.advance(STALE_AFTER_S + 1)
    assert load.of("a").expected_s(clock.monotonic(), stream=True) is None
    load.first_token("a", 1.0)
    assert load.of("a").expected_s(clock.monotonic(), stream=True) == 1.0
