from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routeiq.resilience.breaker import Breakers, State
from tests.support.clock import FakeClock

Transitions = list[tuple[str, str, str]]
OPEN_S, WINDOW_S = 30.0, 60.0


def breakers(clock: FakeClock, *, threshold: int = 3, seen: Transitions | None = None) -> Breakers:
    def note(id: str, before: State, after: State) -> None:
        if seen is not None:
            seen.append((id, before, after))

    return Breakers(
        failure_threshold=threshold,
        open_s=OPEN_S,
        window_s=WINDOW_S,
        clock=clock,
        on_transition=None if seen is None else note,
    )


def fail(all: Breakers, times: int, id: str = "a") -> None:
    for _ in range(times):
        all.failure(id)


def test_breaker_opens_at_the_threshold_and_only_its_own(clock: FakeClock) -> None:
    seen: Transitions = []
    all = breakers(clock, seen=seen)
    fail(all, 2)
    assert all.allows("a")
    fail(all, 1)
    assert all.state("a") == "open"
    assert not all.allows("a")
    assert not all.acquire("a")
    assert all.allows("b")
    assert all.snapshot() == {"a": "open"}
    assert seen == [("a", "closed", "open")]


def test_failures_outside_the_window_do_not_count(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 2)
    clock.advance(WINDOW_S + 1)
    fail(all, 2)
    assert all.state("a") == "closed"
    fail(all, 1)
    assert all.state("a") == "open"


@pytest.mark.parametrize(("successes", "state"), [(3, "open"), (4, "closed")])
def test_a_deployment_that_mostly_succeeds_stays_closed(
    clock: FakeClock, successes: int, state: str
) -> None:
    all = breakers(clock)
    fail(all, 2)
    for _ in range(successes):
        all.success("a")
    fail(all, 1)
    assert all.state("a") == state


def test_a_threshold_of_one_opens_at_the_first_failure(clock: FakeClock) -> None:
    for threshold in (0, 1):
        all = breakers(clock, threshold=threshold)
        fail(all, 1)
        assert all.state("a") == "open"


def test_half_open_lets_a_single_probe_through(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 3)
    assert all.retry_after_s("a") == OPEN_S
    clock.advance(OPEN_S)
    assert all.state("a") == "half_open"
    assert all.retry_after_s("a") == 0.0
    assert all.allows("a")
    assert all.allows("a")  # looking takes nothing
    assert all.acquire("a")
    assert not all.allows("a")
    assert not all.acquire("a")
    assert all.state("a") == "half_open"


def test_a_good_probe_closes_and_forgets(clock: FakeClock) -> None:
    seen: Transitions = []
    all = breakers(clock, seen=seen)
    fail(all, 3)
    clock.advance(OPEN_S)
    all.acquire("a")
    all.success("a")
    assert all.state("a") == "closed"
    fail(all, 2)
    assert all.state("a") == "closed"
    assert [after for _, _, after in seen] == ["open", "half_open", "closed"]


def test_a_bad_probe_opens_for_another_pause(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 3)
    clock.advance(OPEN_S)
    all.acquire("a")
    clock.advance(1)
    fail(all, 1)
    assert all.state("a") == "open"
    assert all.retry_after_s("a") == OPEN_S


def test_a_released_probe_leaves_room_for_the_next(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 3)
    clock.advance(OPEN_S)
    all.acquire("a")
    all.release("a")
    assert all.acquire("a")
    all.release("never-seen")


def test_a_probe_that_never_reports_expires(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 3)
    clock.advance(OPEN_S)
    assert all.acquire("a")
    clock.advance(OPEN_S - 1)
    assert all.retry_after_s("a") == 1.0
    assert not all.acquire("a")
    clock.advance(1)
    assert all.acquire("a")


def test_late_news_about_an_open_breaker_is_ignored(clock: FakeClock) -> None:
    all = breakers(clock)
    fail(all, 3)
    clock.advance(10)
    all.success("a")
    fail(all, 5)
    assert all.state("a") == "open"
    assert all.retry_after_s("a") == OPEN_S - 10


def test_healthy_deployments_keep_no_books(clock: FakeClock) -> None:
    all = breakers(clock)
    assert all.acquire("a")
    all.success("a")
    assert all.snapshot() == {}
    assert all.retry_after_s("a") == 0.0


class BreakerMachine(RuleBasedStateMachine):
    """One breaker against a model that is written down independently and naively."""

    @initialize(threshold=st.integers(1, 4))
    def start(self, threshold: int) -> None:
        self.clock = FakeClock()
        self.threshold = threshold
        self.breakers = breakers(self.clock, threshold=threshold)
        self.state = "closed"
        self.calls: list[tuple[float, bool]] = []  # since it was last closed: when, good
        self.until = 0.0
        self.probing = False

    def may(self) -> bool:
        if self.state == "closed" or self.clock.now >= self.until:
            return True
        return self.state == "half_open" and not self.probing

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def acquire(self) -> None:
        allowed = self.may()
        assert self.breakers.acquire("a") is allowed
        if allowed and self.state != "closed":
            self.state, self.probing, self.until = "half_open", True, self.clock.now + OPEN_S

    @rule()
    def success(self) -> None:
        self.breakers.success("a")
        if self.state == "half_open":
            self.state, self.probing, self.calls = "closed", False, []
        elif self.state == "closed":
            self.calls.append((self.clock.now, True))

    @rule()
    def failure(self) -> None:
        self.breakers.failure("a")
        if self.state == "open":
            return
        if self.state == "closed":
            self.calls.append((self.clock.now, False))
            bad = [index for index, (_, good) in enumerate(self.calls) if not good]
            if len(bad) < self.threshold:
                return
            last = self.calls[bad[-self.threshold] :]
            good = sum(one for _, one in last)
            if self.clock.now - last[0][0] > WINDOW_S or good > self.threshold:
                return
        self.state, self.probing, self.until = "open", False, self.clock.now + OPEN_S

    @rule()
    def release(self) -> None:
        self.breakers.release("a")
        self.probing = False

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "clock"):
            return
        assert self.breakers.allows("a") is self.may()
        shown = self.state
        if shown == "open" and self.clock.now >= self.until:
            shown = "half_open"
        assert self.breakers.state("a") == shown
        assert (self.breakers.retry_after_s("a") == 0.0) is self.may()


TestBreakerMachine = BreakerMachine.TestCase
