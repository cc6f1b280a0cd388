"""Circuit breakers: stop asking a deployment that fails, ask again with one probe after a while.

Closed lets calls through. It opens when the last `failure_threshold` failures lie within `window_s` and
at least as many calls failed as succeeded since the oldest of them, so that one percent of errors on a
busy deployment opens nothing. Open refuses for `open_s`. Half-open lets a single probe through, whose
verdict closes the breaker or opens it again; a probe that never reports expires after `open_s`.

One event loop, plain attributes, no locks: no method awaits, so none can be interrupted by another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from routeiq.ports import Clock

State = Literal["closed", "open", "half_open"]
OnTransition = Callable[[str, State, State], None]


class Breaker:
    """The books of one deployment. `until` is when an open one may be probed, or a probe expires."""

    __slots__ = ("failures", "probing", "state", "successes", "until")

    def __init__(self, failure_threshold: int) -> None:
        self.state: State = "closed"
        self.successes = 0
        self.failures: deque[tuple[float, int]] = deque(maxlen=failure_threshold)
        self.until = 0.0
        self.probing = False

    def allows(self, now: float) -> bool:
        """Whether one that is not closed may be probed: the pause is over and nobody is at it."""
        return now >= self.until or (self.state == "half_open" and not self.probing)

    def must_open(self, now: float, window_s: float) -> bool:
        """Note a failure; whether it is one too many."""
        self.failures.append((now, self.successes))
        since, successes = self.failures[0]
        count = len(self.failures)
        return (
            count == self.failures.maxlen
            and now - since <= window_s
            and self.successes - successes <= count
        )


class Breakers:
    """The breakers of all deployments, by id; made on first use.

    A call goes `acquire`, then one of `success`, `failure` and `release` (it ended without a verdict, for
    example because the client left).
    """

    def __init__(
        self,
        *,
        failure_threshold: int,
        open_s: float,
        window_s: float,
        clock: Clock,
        on_transition: OnTransition | None = None,
    ) -> None:
        self._threshold = max(1, failure_threshold)
        self._open_s = open_s
        self._window_s = window_s
        self._monotonic = clock.monotonic
        self._on_transition = on_transition
        self._all: dict[str, Breaker] = {}
        self._tripped: dict[
            str, Breaker
        ] = {}  # those not closed: the common question is one look-up

    def state(self, id: str) -> State:
        """The state now; an open breaker whose pause is over is half-open."""
        breaker = self._tripped.get(id)
        if breaker is None:
            return "closed"
        return "half_open" if self._monotonic() >= breaker.until else breaker.state

    def allows(self, id: str) -> bool:
        """Whether `acquire` would succeed; changes nothing."""
        breaker = self._tripped.get(id)
        return breaker is None or breaker.allows(self._monotonic())

    def acquire(self, id: str) -> bool:
        """Ask to make a call. In half-open only one caller gets yes, until it reports."""
        breaker = self._tripped.get(id)
        if breaker is None:
            return True
        now = self._monotonic()
        if not breaker.allows(now):
            return False
        self._change(id, breaker, "half_open")
        breaker.probing = True
        breaker.until = now + self._open_s
        return True

    def release(self, id: str) -> None:
        """A call ended without a verdict: the next one may probe."""
        breaker = self._tripped.get(id)
        if breaker is not None:
            breaker.probing = False

    def success(self, id: str) -> None:
        """A call showed the deployment healthy. Late news about an open breaker are ignored."""
        breaker = self._all.get(id)
        if breaker is None:
            return
        breaker.successes += 1
        if breaker.state == "half_open":
            breaker.failures.clear()
            breaker.probing = False
            del self._tripped[id]
            self._change(id, breaker, "closed")

    def failure(self, id: str) -> None:
        """A call failed in a way that says something about the deployment."""
        breaker = self._all.get(id)
        if breaker is None:
            breaker = self._all[id] = Breaker(self._threshold)
        now = self._monotonic()
        if breaker.state == "closed":
            if not breaker.must_open(now, self._window_s):
                return
        elif breaker.state == "open":
            return
        breaker.probing = False
        breaker.until = now + self._open_s
        self._tripped[id] = breaker
        self._change(id, breaker, "open")

    def retry_after_s(self, id: str) -> float:
        """Seconds until a call may be allowed; 0 if it is now."""
        breaker = self._tripped.get(id)
        now = self._monotonic()
        return 0.0 if breaker is None or breaker.allows(now) else breaker.until - now

    def snapshot(self) -> dict[str, State]:
        """The state of every breaker that has seen a failure."""
        return {id: self.state(id) for id in self._all}

    def _change(self, id: str, breaker: Breaker, state: State) -> None:
        before, breaker.state = breaker.state, state
        if self._on_transition is not None and before != state:
            self._on_transition(id, before, state)
