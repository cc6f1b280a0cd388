"""A dollar budget: how much predicted quality a dollar must be worth right now, so that the spend meets a target.

A controller in the manner of dual ascent for budgeted bandits, in two loops, O(1) a request and without any
knowledge of the models. The choice itself stays `quality - weight * cost`; only the weight moves.

- The outer loop says what the next request may cost: the target per request, or, for an amount per period, what is
  left of it divided by the requests still expected. So early errors and bursts are spread over the rest of the
  period, and traffic need not be known beforehand.
- The inner loop is a PI controller on the logarithm of the weight. Its error is the surplus, in requests' worth of
  money; the proportional part pays it back over `window` requests, the integral part finds the weight at which
  the surplus stays zero.

The cost predicted at the decision counts at once (`commit`) and is corrected when the call has ended (`settle`),
so that hundreds of calls under way do not make the loop swing. Pure but for the clock; one event loop, no locks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import exp, isfinite, log
from typing import Any

from routeiq.config.section import Budget
from routeiq.ports import Clock

WINDOW = 150
"""Requests over which a surplus or an overspend is paid back."""
GAIN = 4.0
"""Proportional gain: a surplus of one window divides the weight by e**4."""
DAMPING = 8.0
"""Integral gain is GAIN**2 / DAMPING / window**2: critically damped where cost falls as weight**-0.5."""
LOG_RANGE = 7.0
"""The weight, times the target cost of a request, stays within e**-7 and e**7: from free to cheapest only."""
LOG_START = log(0.1)
"""Before anything was seen, a request's worth of money is worth 0.1 of quality."""
FORGIVEN = 10.0
"""An overspend of more windows than this is not paid back: the target was out of reach then."""
FINISH = 10.0
"""What is left of a period's amount is spread over a tenth of a window at least, however near its end."""
BINS = 24
"""Parts of a period whose traffic is counted, so that the next one is expected to look like it: hours of a day."""
UNTRUSTED = 0.25
"""In the first period, empty bins that are added to those seen: an early burst is no rate for all of it."""
PERIODS_S = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629800.0}
"""Seconds; a month is a twelfth of 365.25 days."""
SCOPES = 4096
"""Controllers kept by `Budgets`; the least recently used is dropped."""


_NUMBERS = ("wall", "elapsed_s", "requests", "spent", "total_spent", "surplus", "level", "usd")


class BudgetController:
    """Keeps the mean cost of a request, or the spend of a period, at a target.

    Args:
        usd: the target in USD: of one request if `period_s` is None, else of one period.
        clock: only its monotonic time paces; the wall clock is used across restarts alone.
        period_s: length of the period in seconds; it begins when the controller is made and repeats.
        base_weight: the profile's own cost weight; the budget only ever adds to it.
        workers: processes that share the traffic evenly; each gets its share of a period's amount.
        window: requests over which errors are paid back.

    Raises:
        ValueError: an argument is not positive and finite.
    """

    __slots__ = (
        "_base",
        "_clock",
        "_counts",
        "_earlier",
        "_elapsed_s",
        "_last",
        "_level",
        "_period_s",
        "_requests",
        "_spent",
        "_surplus",
        "_target",
        "_total_spent",
        "_usd",
        "_weight",
        "_window",
    )

    def __init__(
        self,
        usd: float,
        *,
        clock: Clock,
        period_s: float | None = None,
        base_weight: float = 0.0,
        workers: int = 1,
        window: int = WINDOW,
    ) -> None:
        for name, given in (("usd", usd), ("workers", workers), ("window", window)):
            _positive(name, given)
        if period_s is not None:
            _positive("period_s", period_s)
        self._usd = usd if period_s is None else usd / workers
        self._period_s = period_s
        self._clock = clock
        self._base = base_weight
        self._window = float(window)
        self._last = clock.monotonic()
        self._elapsed_s = 0.0
        self._requests = 0
        self._counts = [0] * BINS
        self._earlier = [0] * BINS
        self._spent = 0.0
        self._total_spent = 0.0
        self._surplus = 0.0
        self._level = LOG_START
        self._target = self._usd if period_s is None else self._usd / self._window
        self._weight = 0.0
        self._steer()

    def weight(self) -> float:
        """The cost weight to use now, in quality per USD; at least the base weight."""
        return self._weight

    def commit(self, predicted_usd: float | None) -> None:
        """A request was decided; its predicted cost counts as spent until it is settled."""
        if self._period_s is not None:
            self._pace(self._period_s)
            self._counts[self._bin(self._period_s)] += 1
        self._requests += 1
        self._surplus += 1.0
        self._level -= (GAIN * GAIN / DAMPING / (self._window * self._window)) * _clamp(
            self._surplus, self._window
        )
        self._level = _clamp(self._level, LOG_RANGE)
        self._account(predicted_usd or 0.0)

    def settle(self, cost_usd: float, committed_usd: float | None = None) -> None:
        """A request has ended and cost `cost_usd`.

        `committed_usd` is what was committed for it; without it, the request is counted only now.
        """
        if committed_usd is None:
            self.commit(cost_usd)
        else:
            self._account(cost_usd - committed_usd)

    def report(self) -> dict[str, Any]:
        """What the admin API shows: target, spend so far, the weight it leads to."""
        return {
            "usd": self._usd,
            "period_s": self._period_s,
            "spent_usd": self._spent,
            "requests": self._requests,
            "elapsed_s": None if self._period_s is None else self._elapsed_s,
            "target_usd_per_request": self._target,
            "surplus_requests": self._surplus,
            "cost_weight": self._weight,
            "total_spent_usd": self._total_spent,
        }

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            "wall": self._clock.wall(),
            "elapsed_s": self._elapsed_s + max(0.0, self._clock.monotonic() - self._last),
            "requests": self._requests,
            "spent": self._spent,
            "total_spent": self._total_spent,
            "surplus": self._surplus,
            "level": self._level,
            "usd": self._usd,
            "counts": list(self._counts),
            "earlier": list(self._earlier),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `snapshot` left off; the time in between counts, unless the wall clock went back.

        What was saved or owed is dropped where the target has changed since.

        Raises:
            ValueError: `state` is not what `snapshot` gave; nothing was restored.
        """
        known, bins = _checked(state)
        self._last = self._clock.monotonic()
        self._elapsed_s = known["elapsed_s"] + max(0.0, self._clock.wall() - known["wall"])
        self._requests = int(known["requests"])
        self._counts, self._earlier = bins
        self._spent, self._total_spent = known["spent"], known["total_spent"]
        self._level = _clamp(known["level"], LOG_RANGE)
        if known["usd"] == self._usd:
            self._surplus = known["surplus"]
        if self._period_s is not None:
            self._pace(self._period_s)
        self._steer()

    def _account(self, usd: float) -> None:
        """Note money spent (or, when negative, given back) and set the weight anew."""
        self._spent += usd
        self._total_spent += usd
        surplus = self._surplus - usd / self._target
        window = self._window
        # Of a period's amount the outer loop remembers what was overspent; of a mean only the surplus does.
        longest = window if self._period_s is not None else FORGIVEN * window
        self._surplus = min(window, max(-longest, surplus))
        self._steer()

    def _steer(self) -> None:
        power = _clamp(self._level - GAIN * self._surplus / self._window, LOG_RANGE)
        if self._period_s is not None and self._spent >= self._usd:
            power = LOG_RANGE  # nothing is left of this period's amount
        self._weight = self._base + exp(power) / self._target

    def _pace(self, period_s: float) -> None:
        """Move time on, begin a new period where one is over, and say what the next request may cost."""
        now = self._clock.monotonic()
        self._elapsed_s += max(0.0, now - self._last)
        self._last = now
        if self._elapsed_s >= period_s:
            whole = self._elapsed_s // period_s
            self._earlier = self._counts if whole == 1.0 else [0] * BINS
            self._counts = [0] * BINS
            self._elapsed_s -= whole * period_s
            self._requests, self._spent, self._surplus = 0, 0.0, 0.0
        expected = self._expected(period_s)
        left = self._usd - self._spent
        target = left / max(expected, self._window / FINISH)
        # Spent already: what is aimed at stays positive, so that the arithmetic does, and is next to nothing.
        least = self._usd / (self._requests + expected + self._window)
        self._target = max(target, 1e-3 * least)

    def _bin(self, period_s: float) -> int:
        return min(int(self._elapsed_s / period_s * BINS), BINS - 1)

    def _expected(self, period_s: float) -> float:
        """Requests still to come in this period.

        As in the previous period from this moment on, scaled by how the traffic so far compares; in the first one
        at the mean rate so far.
        """
        position = self._elapsed_s / period_s * BINS
        current = self._bin(period_s)
        if sum(self._earlier) == 0:
            return self._requests / (position + UNTRUSTED) * (BINS - position)
        after = sum(self._earlier[current + 1 :]) + self._earlier[current] * (
            current + 1 - position
        )
        before = sum(self._earlier) - after
        return after * (self._requests + self._window) / (before + self._window)


class Budgets:
    """One controller for all traffic, or one for each key (or team), at most `size`.

    Dropping the least recently used one forgets what it has spent; `size` is meant never to be reached.

    Args:
        make: makes the controller of a scope.
        scoped: whether each name has its own; else all share one.
        size: how many are kept.
    """

    __slots__ = ("_controllers", "_make", "_scoped", "_size")

    def __init__(
        self, make: Callable[[], BudgetController], *, scoped: bool = False, size: int = SCOPES
    ) -> None:
        self._make = make
        self._scoped = scoped
        self._size = size
        self._controllers: OrderedDict[str, BudgetController] = OrderedDict()

    def of(self, scope: str | None) -> BudgetController:
        """The controller of a scope (`None`: requests without a key); made on first use."""
        name = (scope or "") if self._scoped else ""
        found = self._controllers.get(name)
        if found is None:
            if len(self._controllers) >= self._size:
                self._controllers.popitem(last=False)
            found = self._controllers[name] = self._make()
        else:
            self._controllers.move_to_end(name)
        return found

    def weight(self, scope: str | None) -> float:
        """The cost weight to use for a request of this scope."""
        return self.of(scope).weight()

    def commit(self, scope: str | None, predicted_usd: float | None) -> None:
        """A request of this scope was decided."""
        self.of(scope).commit(predicted_usd)

    def settle(
        self, scope: str | None, cost_usd: float, committed_usd: float | None = None
    ) -> None:
        """A request of this scope has ended; see `BudgetController.settle`."""
        self.of(scope).settle(cost_usd, committed_usd)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """All states by scope, least recently used first, as JSON."""
        return {scope: one.snapshot() for scope, one in self._controllers.items()}

    def restore(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Bring back what `snapshot` gave."""
        for scope, state in states.items():
            self.of(scope).restore(state)

    def report(self) -> dict[str, dict[str, Any]]:
        """Every scope's figures, for the admin API."""
        return {scope: one.report() for scope, one in self._controllers.items()}


def budgets_for(budget: Budget, base_weight: float, *, workers: int, clock: Clock) -> Budgets:
    """The controllers that a profile's `budget` asks for."""
    amount = budget.usd_per_request if budget.usd is None else budget.usd
    period_s = None if budget.usd is None else PERIODS_S[budget.per]
    if amount is None:
        raise ValueError("a budget needs usd or usd_per_request")

    def make() -> BudgetController:
        return BudgetController(
            amount, clock=clock, period_s=period_s, base_weight=base_weight, workers=workers
        )

    return Budgets(make, scoped=budget.scope != "global")


def _checked(state: Mapping[str, Any]) -> tuple[dict[str, float], tuple[list[int], list[int]]]:
    """The numbers and the bins of a snapshot."""
    try:
        known = {name: float(state[name]) for name in _NUMBERS}
        counts, earlier = ([int(n) for n in state[name]] for name in ("counts", "earlier"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a budget's snapshot: {error!r}") from error
    if not all(map(isfinite, known.values())) or len(counts) != BINS or len(earlier) != BINS:
        raise ValueError("not a budget's snapshot: numbers are missing or not finite")
    return known, (counts, earlier)


def _positive(name: str, given: float) -> None:
    if not (isfinite(given) and given > 0):
        raise ValueError(f"{name} must be positive and finite, not {given!r}")


def _clamp(value: float, bound: float) -> float:
    return min(bound, max(-bound, value))
