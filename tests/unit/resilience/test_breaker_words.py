"""What breakers are told from outside: the operator's overrides, other workers' news, leave for a probe."""

from __future__ import annotations

import pytest

from routeiq.resilience.breaker import LEAVE_S, Breakers, State
from tests.support.clock import FakeClock

OPEN_S = 30.0
Transitions = list[tuple[str, str, str]]


@pytest.fixture
def seen() -> Transitions:
    return []


@pytest.fixture
def breakers(clock: FakeClock, seen: Transitions) -> Breakers:
    def note(id: str, before: State, after: State) -> None:
        seen.append((id, before, after))

    return Breakers(
        failure_threshold=2, open_s=OPEN_S, window_s=60.0, clock=clock, on_transition=note
    )


@pytest.fixture
def wanted(breakers: Breakers) -> list[str]:
    """Makes the breakers part of a fleet; the ids that requests waited for."""
    ids: list[str] = []
    breakers.join(lambda id, before, after: None, ids.append)
    return ids


def trip(breakers: Breakers, id: str = "a") -> None:
    breakers.failure(id)
    breakers.failure(id)
    assert breakers.state(id) == "open"


def test_a_drained_deployment_gets_nothing(breakers: Breakers, seen: Transitions) -> None:
    breakers.override({"a": "drain"})
    assert breakers.state("a") == "drained"
    assert not breakers.allows("a")
    assert not breakers.acquire("a")
    assert breakers.retry_after_s("a") == OPEN_S
    assert breakers.snapshot() == {"a": "drained"}
    assert breakers.allows("b")
    breakers.override({})
    assert breakers.acquire("a")
    assert seen == [("a", "closed", "drained"), ("a", "drained", "closed")]


def test_calls_under_way_while_drained_still_count(breakers: Breakers, clock: FakeClock) -> None:
    breakers.override({"a": "drain"})
    breakers.failure("a")
    breakers.failure("a")
    clock.advance(OPEN_S)
    assert breakers.state("a") == "drained"
    assert not breakers.allows("a")
    breakers.override({})
    assert breakers.acquire("a")
    breakers.override({"a": "drain"})
    breakers.success("a")
    assert breakers.state("a") == "drained"
    breakers.override({})
    assert breakers.state("a") == "closed"
    assert breakers.acquire("a")
    assert breakers.acquire("a")


def test_an_override_ends_the_one_before(breakers: Breakers) -> None:
    breakers.override({"a": "drain", "b": "drain"})
    breakers.override({"b": "drain", "c": "drain"})
    assert [breakers.state(id) for id in "abc"] == ["closed", "drained", "drained"]
    breakers.override({"b": "closed"})
    assert [breakers.state(id) for id in "abc"] == ["closed", "closed", "closed"]


def test_forced_closed_whatever_happens(breakers: Breakers, seen: Transitions) -> None:
    trip(breakers)
    breakers.override({"a": "closed"})
    assert breakers.acquire("a")
    for _ in range(5):
        breakers.failure("a")
    breakers.open_remotely("a", 20.0)
    assert breakers.allows("a")
    assert breakers.state("a") == "closed"
    breakers.override({})
    assert breakers.allows("a")
    breakers.failure("a")
    assert breakers.state("a") == "open"
    assert [after for _, _, after in seen] == ["open", "closed", "open"]


def test_an_override_that_is_said_again_changes_nothing(
    breakers: Breakers, seen: Transitions
) -> None:
    for _ in range(2):
        breakers.override({"a": "drain"})
    assert len(seen) == 1


def test_opened_remotely_for_as_long_as_it_was_said(breakers: Breakers, clock: FakeClock) -> None:
    breakers.open_remotely("a", 12.0)
    assert breakers.retry_after_s("a") == 12.0
    clock.advance(11.9)
    assert not breakers.acquire("a")
    clock.advance(0.1)
    assert breakers.acquire("a")
    breakers.open_remotely("b", 1e9)
    assert breakers.retry_after_s("b") == OPEN_S


def test_only_younger_news_prolong_a_pause(breakers: Breakers, clock: FakeClock) -> None:
    trip(breakers)
    clock.advance(10.0)
    for left_s in (0.0, 15.0, 22.0):
        breakers.open_remotely("a", left_s)
        assert breakers.retry_after_s("a") == 20.0
    breakers.open_remotely("a", 30.0)
    assert breakers.retry_after_s("a") == 30.0


def test_closed_remotely(breakers: Breakers) -> None:
    trip(breakers)
    breakers.close_remotely("a")
    assert breakers.acquire("a")
    breakers.close_remotely("a")
    breakers.close_remotely("never-seen")
    breakers.override({"a": "drain"})
    breakers.close_remotely("a")
    assert breakers.state("a") == "drained"


def test_a_probe_needs_leave_in_a_fleet(
    breakers: Breakers, wanted: list[str], clock: FakeClock
) -> None:
    trip(breakers)
    assert breakers.wanting_leave() == {"a": OPEN_S}
    clock.advance(OPEN_S)
    assert breakers.wanting_leave() == {"a": 0.0}
    assert breakers.state("a") == "open"
    assert not breakers.allows("a")
    assert breakers.retry_after_s("a") == LEAVE_S
    breakers.give_leave("a")
    assert breakers.state("a") == "half_open"
    assert breakers.wanting_leave() == {}
    assert breakers.acquire("a")
    assert not breakers.acquire("a")
    breakers.success("a")
    assert breakers.state("a") == "closed"


def test_who_was_denied_waits_for_one_more_pause(
    breakers: Breakers, wanted: list[str], clock: FakeClock
) -> None:
    trip(breakers)
    clock.advance(OPEN_S)
    breakers.deny_leave("a")
    assert breakers.wanting_leave() == {}  # until somebody wants it
    assert not breakers.allows("a")
    assert wanted == ["a"]
    assert not breakers.acquire("a")
    assert wanted == ["a"]
    assert breakers.wanting_leave() == {"a": OPEN_S}
    assert breakers.retry_after_s("a") == OPEN_S


def test_without_anybody_to_ask_a_probe_goes_one_pause_later(
    breakers: Breakers, wanted: list[str], clock: FakeClock
) -> None:
    trip(breakers)
    clock.advance(2 * OPEN_S - 0.1)
    assert not breakers.acquire("a")
    clock.advance(0.1)
    assert breakers.acquire("a")
    assert not breakers.acquire("a")
    breakers.release("a")
    assert breakers.acquire("a")


def test_a_late_probe_is_not_replaced_without_leave_and_still_counts(
    breakers: Breakers, wanted: list[str], clock: FakeClock
) -> None:
    trip(breakers)
    clock.advance(OPEN_S)
    breakers.give_leave("a")
    assert breakers.acquire("a")
    assert not breakers.acquire("a")
    assert breakers.wanting_leave() == {"a": OPEN_S}
    clock.advance(OPEN_S)
    assert breakers.wanting_leave() == {"a": 0.0}
    breakers.deny_leave("a")
    breakers.release("a")
    assert not breakers.acquire("a")
    breakers.success("a")
    assert breakers.acquire("a")


def test_those_open_already_join_too(breakers: Breakers, clock: FakeClock) -> None:
    trip(breakers)
    breakers.join(lambda id, before, after: None, lambda id: None)
    clock.advance(OPEN_S)
    assert not breakers.acquire("a")


def test_leave_for_one_that_closed_meanwhile_is_nothing(
    breakers: Breakers, wanted: list[str]
) -> None:
    breakers.give_leave("a")
    breakers.deny_leave("a")
    assert breakers.acquire("a")
    assert breakers.snapshot() == {}


def test_a_drained_one_asks_for_no_leave(
    breakers: Breakers, wanted: list[str], clock: FakeClock
) -> None:
    trip(breakers)
    breakers.override({"a": "drain"})
    clock.advance(OPEN_S)
    assert not breakers.allows("a")
    assert breakers.wanting_leave() == {}
