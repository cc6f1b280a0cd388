from __future__ import annotations

import pytest

from routeiq.routing.pace import PATIENCE, SUSPENDED_S, Pace
from tests.support.clock import FakeClock


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(clock, 0.005)


def slow(pace: Pace, times: int, name: str = "s") -> None:
    for _ in range(times):
        pace.too_slow(name)


def test_one_slow_call_less_than_the_patience_changes_nothing(pace: Pace) -> None:
    slow(pace, PATIENCE - 1)
    assert not pace.is_suspended("s")
    assert pace.suspensions == {}


def test_too_many_slow_calls_set_a_strategy_aside_for_a_while(pace: Pace, clock: FakeClock) -> None:
    slow(pace, PATIENCE)
    assert pace.suspensions == {"s": 1}
    assert not pace.is_suspended("other")
    clock.advance(SUSPENDED_S - 0.001)
    assert pace.is_suspended("s")
    clock.advance(0.002)
    assert not pace.is_suspended("s")
    assert pace.suspended == {}


def test_after_its_suspension_a_strategy_has_its_patience_again(
    pace: Pace, clock: FakeClock
) -> None:
    slow(pace, PATIENCE)
    clock.advance(SUSPENDED_S)
    slow(pace, PATIENCE - 1)
    assert not pace.is_suspended("s")
    slow(pace, 1)
    assert pace.is_suspended("s")
    assert pace.suspensions == {"s": 2}


def test_slow_calls_that_are_far_apart_do_not_count_together(pace: Pace, clock: FakeClock) -> None:
    slow(pace, PATIENCE - 1)
    clock.advance(SUSPENDED_S + 0.001)
    slow(pace, PATIENCE - 1)
    assert not pace.is_suspended("s")


def test_strategies_are_counted_apart(pace: Pace) -> None:
    slow(pace, PATIENCE - 1, "a")
    slow(pace, PATIENCE - 1, "b")
    assert not pace.is_suspended("a")
    assert not pace.is_suspended("b")


@pytest.mark.parametrize(
    ("cpu_s", "wall_s", "slow"),
    [(0.004, 0.09, False), (0.006, 0.006, True), (0.0, 0.11, True)],
    ids=["a busy machine", "too much work", "waiting"],
)
def test_cpu_time_counts_and_waiting_only_when_it_is_long(
    clock: FakeClock, cpu_s: float, wall_s: float, slow: bool
) -> None:
    used = [0.0]
    pace = Pace(clock, 0.005, lambda: used[0])
    for _ in range(PATIENCE):
        start = pace.start()
        used[0] += cpu_s
        clock.advance(wall_s)
        pace.stop("s", start)
    assert pace.is_suspended("s") is slow
