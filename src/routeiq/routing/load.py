"""What this worker sees of each deployment: calls under way, how long answers take.

Plain attributes on one event loop: no locks. Every `started` is followed by exactly one `finished`.
"""

from __future__ import annotations

from routeiq.ports import Clock

from .spending import OutputLengths

SMOOTHING = 0.2
"""Weight of the newest measurement in the exponentially weighted means: the last ten count for 90 %."""
STALE_AFTER_S = 60.0
"""A measurement older than this says nothing any more: the deployment counts as unmeasured."""


class Load:
    """One deployment's books. Times in seconds; `None` is not measured yet."""

    __slots__ = ("first_token_s", "in_flight", "latency_s", "measured_at")

    def __init__(self) -> None:
        self.in_flight = 0
        self.first_token_s: float | None = None
        self.latency_s: float | None = None
        self.measured_at = 0.0

    def expected_s(self, now: float, *, stream: bool) -> float | None:
        """Expected time until the client sees something: the first token, or the whole answer.

        `None` where nothing recent is known, so that strategies can explore.
        """
        if now - self.measured_at > STALE_AFTER_S:
            return None
        if stream:
            return self.latency_s if self.first_token_s is None else self.first_token_s
        return self.first_token_s if self.latency_s is None else self.latency_s


class LoadTracker:
    """The books of all deployments, by id; and how long the answers of each model group are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.lengths = OutputLengths()
        self._loads: dict[str, Load] = {}

    def of(self, id: str) -> Load:
        """The live books of a deployment; opened on first use, kept for as long as the tracker."""
        load = self._loads.get(id)
        if load is None:
            load = self._loads[id] = Load()
        return load

    def started(self, id: str) -> None:
        """A call begins."""
        self.of(id).in_flight += 1

    def first_token(self, id: str, seconds: float) -> None:
        """The first piece of a streamed answer came `seconds` after the call began."""
        load = self._fresh(id)
        load.first_token_s = _smoothed(load.first_token_s, seconds)

    def finished(self, id: str, seconds: float | None = None) -> None:
        """A call ended, after `seconds` if it gave a whole answer (failures are fast and teach nothing)."""
        self.of(id).in_flight -= 1
        if seconds is not None:
            load = self._fresh(id)
            load.latency_s = _smoothed(load.latency_s, seconds)

    def _fresh(self, id: str) -> Load:
        """Books about to take a measurement: stale means are forgotten, not averaged with the new."""
        load = self.of(id)
        now = self._clock.monotonic()
        if now - load.measured_at > STALE_AFTER_S:
            load.first_token_s = load.latency_s = None
        load.measured_at = now
        return load


def _smoothed(mean: float | None, value: float) -> float:
    return value if mean is None else mean + SMOOTHING * (value - mean)
