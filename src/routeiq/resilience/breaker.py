"""Circuit breakers: stop asking a deployment that fails, ask again with one probe after a while.

Closed lets calls through. It opens when the last `failure_threshold` failures lie within `window_s` and
at least as many calls failed as succeeded since the oldest of them, so that one percent of errors on a
busy deployment opens nothing. Open refuses for `open_s`. Half-open lets a single probe through, whose
verdict closes the breaker or opens it again; a probe that never reports expires after `open_s`.

Where a fleet shares its breakers (`join`, see `fleet.py`) a pause that is over is not enough: the probe also
needs leave, which one worker of the fleet gets. If nobody gives or denies it for another `open_s`, the worker
goes on alone.

An operator may put a deployment aside (`drain`) or keep its breaker closed whatever happens (`override`).

One event loop, plain attributes, no locks: no method awaits, so none can be interrupted by another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from routeiq.ports import Clock

State = Literal["closed", "open", "half_open", "drained"]
Override = Literal["drain", "closed"]
OnTransition = Callable[[str, State, State], None]
OnWanted = Callable[[str], None]
YOUNGER = 0.25
"""Share of a pause by which news must be younger than what is known, so that latency is not taken for news."""
LEAVE_S = 1.0
"""What callers are told to wait while a probe's leave is asked for."""


class Breaker:
    """The books of one deployment. `until` is when an open one may be probed, or a probe expires.

    For `hold_s` after `until` the probe needs leave, which may be used up to `leave_until`. `wanted` says that a
    request would have liked to be the probe.
    """

    __slots__ = (
        "failures",
        "hold_s",
        "leave_until",
        "override",
        "probing",
        "state",
        "successes",
        "until",
        "wanted",
    )

    def __init__(self, failure_threshold: int) -> None:
        self.state: State = "closed"
        self.successes = 0
        self.failures: deque[tuple[float, int]] = deque(maxlen=failure_threshold)
        self.until = 0.0
        self.probing = False
        self.override: Override | None = None
        self.hold_s = 0.0
        self.leave_until = 0.0
        self.wanted = False

    @property
    def shown(self) -> State:
        """The state with the operator's word in it."""
        return "drained" if self.override == "drain" else self.state

    def allows(self, now: float) -> bool:
        """Whether one that is not closed may be probed: the pause is over and nobody is at it."""
        if self.override == "drain":
            return False
        if now < self.until:
            return self.state == "half_open" and not self.probing
        return now < self.leave_until or now >= self.until + self.hold_s

    def pause(self, until: float, hold_s: float) -> None:
        """Refuse until then."""
        self.probing = False
        self.until = until
        self.hold_s = hold_s
        self.leave_until = 0.0
        self.wanted = False

    def must_open(self, now: float, window_s: float) -> bool:
        """Note a failure; whether it is one too many."""
        self.failures.append((now, self.successes))
        since, successes = self.failures[0]
        count = len(self.failures)
        return (
            count == self.failures.maxlen
            and now - since <= window_s
            and self.successes - successes <= count
            and self.override != "closed"
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
        self._on_transition: tuple[OnTransition, ...] = ()
        if on_transition is not None:
            self._on_transition = (on_transition,)
        self._on_wanted: OnWanted | None = None
        self._hold_s = 0.0
        self._all: dict[str, Breaker] = {}
        self._tripped: dict[
            str, Breaker
        ] = {}  # those not closed, and drained ones: the common question is one look-up

    def use(self, *, failure_threshold: int, open_s: float, window_s: float) -> None:
        """Other settings hold from now on (a reload). Pauses that have begun end as they would."""
        self._threshold = max(1, failure_threshold)
        self._open_s, self._window_s = open_s, window_s
        if self._on_wanted is not None:
            self._hold_s = open_s
        for breaker in self._all.values():
            if breaker.failures.maxlen != self._threshold:
                breaker.failures = deque(breaker.failures, self._threshold)

    def state(self, id: str) -> State:
        """The state now; an open breaker that may be probed is half-open."""
        breaker = self._tripped.get(id)
        if breaker is None:
            return "closed"
        return "half_open" if breaker.allows(self._monotonic()) else breaker.shown

    def allows(self, id: str) -> bool:
        """Whether `acquire` would succeed; takes nothing."""
        breaker = self._tripped.get(id)
        return breaker is None or self._may_probe(id, breaker, self._monotonic())

    def acquire(self, id: str) -> bool:
        """Ask to make a call. In half-open only one caller gets yes, until it reports."""
        breaker = self._tripped.get(id)
        if breaker is None:
            return True
        now = self._monotonic()
        if not self._may_probe(id, breaker, now):
            return False
        self._change(id, breaker, "half_open")
        breaker.probing = True
        breaker.until = now + self._open_s
        breaker.leave_until = now  # used up
        return True

    def release(self, id: str) -> None:
        """A call ended without a verdict: the next one may probe, unless the fleet's probe is elsewhere by now."""
        breaker = self._tripped.get(id)
        if breaker is not None and (breaker.leave_until or not breaker.hold_s):
            breaker.probing = False

    def success(self, id: str) -> None:
        """A call showed the deployment healthy. Late news about an open breaker are ignored."""
        breaker = self._all.get(id)
        if breaker is None:
            return
        breaker.successes += 1
        if breaker.state == "half_open":
            self._close(id, breaker)

    def failure(self, id: str) -> None:
        """A call failed in a way that says something about the deployment."""
        breaker = self._of(id)
        now = self._monotonic()
        if breaker.state == "closed":
            if not breaker.must_open(now, self._window_s):
                return
        elif breaker.state == "open":
            return
        self._open(id, breaker, now + self._open_s)
        breaker.wanted = True  # whoever saw it fail has requests for it

    def retry_after_s(self, id: str) -> float:
        """Seconds until a call may be allowed; 0 if it is now. Of a drained one nobody knows."""
        breaker = self._tripped.get(id)
        now = self._monotonic()
        if breaker is None or breaker.allows(now):
            return 0.0
        if breaker.override == "drain":
            return self._open_s
        return breaker.until - now if breaker.until > now else LEAVE_S

    def snapshot(self) -> dict[str, State]:
        """The state of every breaker that has seen a failure or a word from outside."""
        return {id: self.state(id) for id in self._all}

    def override(self, overrides: Mapping[str, Override]) -> None:
        """The operator's word: exactly these are drained or kept closed, whatever was said before."""
        for id, breaker in self._all.items():
            if breaker.override is not None and id not in overrides:
                self._set_override(id, breaker, None)
        for id, override in overrides.items():
            self._set_override(id, self._of(id), override)

    def join(self, on_transition: OnTransition, on_wanted: OnWanted) -> None:
        """From now on probes need leave (`give_leave`); `on_wanted` hears of each breaker that somebody wants."""
        self._hold_s = self._open_s
        self._on_wanted = on_wanted
        self._on_transition += (on_transition,)
        for breaker in self._tripped.values():
            breaker.hold_s = self._hold_s

    def open_remotely(self, id: str, left_s: float) -> None:
        """Another worker saw it fail: refuse for `left_s`, at most our own pause.

        One that is not closed here goes by its own time, unless the news are clearly younger.
        """
        breaker = self._of(id)
        if breaker.override == "closed":
            return
        until = self._monotonic() + min(left_s, self._open_s)
        if breaker.state == "closed" or until > breaker.until + self._open_s * YOUNGER:
            self._open(id, breaker, until)

    def close_remotely(self, id: str) -> None:
        """Another worker's probe went well."""
        breaker = self._tripped.get(id)
        if breaker is not None and breaker.state != "closed":
            self._close(id, breaker)

    def wanting_leave(self) -> dict[str, float]:
        """The breakers that requests wait for, and after how many seconds they need leave for a probe."""
        now = self._monotonic()
        return {
            id: max(breaker.until - now, 0.0)
            for id, breaker in self._tripped.items()
            if breaker.wanted and breaker.override is None and not breaker.allows(now)
        }

    def give_leave(self, id: str) -> None:
        """The probe of the fleet is ours to send, for as long as a pause; then anybody's who asks."""
        breaker = self._tripped.get(id)
        if breaker is not None:
            breaker.wanted = False
            breaker.leave_until = self._monotonic() + self._open_s

    def deny_leave(self, id: str) -> None:
        """Another worker has the probe: wait for its verdict for one more pause."""
        breaker = self._tripped.get(id)
        if breaker is not None:
            breaker.pause(self._monotonic() + self._open_s, self._hold_s)
            breaker.probing = breaker.state == "half_open"  # ours is late, and still counts

    def _of(self, id: str) -> Breaker:
        breaker = self._all.get(id)
        if breaker is None:
            breaker = self._all[id] = Breaker(self._threshold)
        return breaker

    def _may_probe(self, id: str, breaker: Breaker, now: float) -> bool:
        if breaker.allows(now):
            return True
        if not breaker.wanted:
            breaker.wanted = True
            if self._on_wanted is not None:
                self._on_wanted(id)
        return False

    def _open(self, id: str, breaker: Breaker, until: float) -> None:
        breaker.pause(until, self._hold_s)
        self._tripped[id] = breaker
        self._change(id, breaker, "open")

    def _close(self, id: str, breaker: Breaker) -> None:
        breaker.failures.clear()
        breaker.probing = False
        if breaker.override != "drain":
            del self._tripped[id]
        self._change(id, breaker, "closed")

    def _set_override(self, id: str, breaker: Breaker, override: Override | None) -> None:
        before = breaker.shown
        breaker.override = override
        if override == "closed":
            breaker.state = "closed"
            breaker.failures.clear()
            breaker.probing = False
        if breaker.shown == "closed":
            self._tripped.pop(id, None)
        else:
            self._tripped[id] = breaker
        self._tell(id, before, breaker.shown)

    def _change(self, id: str, breaker: Breaker, state: State) -> None:
        before, breaker.state = breaker.state, state
        self._tell(id, before, state)

    def _tell(self, id: str, before: State, after: State) -> None:
        if before != after:
            for listener in self._on_transition:
                listener(id, before, after)
