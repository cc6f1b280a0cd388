"""Time budgets: a strategy that keeps taking too long is set aside for a while, and counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from routeiq.ports import Clock

PATIENCE = 5
"""Slow calls within `SUSPENDED_S` before a strategy is set aside; one alone may be the machine's doing."""
SUSPENDED_S = 30.0


BLOCKED = 20.0
"""Budgets of wall time: a strategy that waits for something (which it must not) uses no CPU time."""


class Pace:
    """Who was too slow, how often, and until when it is set aside.

    What counts is CPU time: on a busy machine every call takes long by the wall clock, and nobody is to blame.
    Availability fails open: `prior` or balancing decides meanwhile.
    """

    def __init__(
        self, clock: Clock, budget_s: float, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self.now = clock.monotonic
        self._cpu = cpu
        self._budget_s = budget_s
        self.suspended: dict[str, float] = {}
        self.suspensions: Counter[str] = Counter()
        self._slow: dict[str, tuple[int, float]] = {}

    def start(self) -> tuple[float, float]:
        """When a call begins, in CPU and wall time."""
        return self._cpu(), self.now()

    def stop(self, name: str, start: tuple[float, float]) -> None:
        """A call has ended; too slow, if it used up its budget."""
        if (
            self._cpu() - start[0] > self._budget_s
            or self.now() - start[1] > BLOCKED * self._budget_s
        ):
            self.too_slow(name)

    def is_suspended(self, name: str) -> bool:
        """Whether a strategy is set aside now."""
        until = self.suspended.get(name)
        if until is None:
            return False
        if self.now() < until:
            return True
        del self.suspended[name]
        return False

    def too_slow(self, name: str) -> None:
        """One call took longer than the budget. Slow calls count together within `SUSPENDED_S`."""
        now = self.now()
        count, first = self._slow.get(name, (0, now))
        if now - first > SUSPENDED_S:
            count, first = 0, now
        self._slow[name] = (count + 1, first)
        if count + 1 >= PATIENCE:
            del self._slow[name]
            self.suspended[name] = now + SUSPENDED_S
            self.suspensions[name] += 1
