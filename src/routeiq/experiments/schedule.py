"""When an experiment runs, and for which share of its subjects at a moment."""

from __future__ import annotations

from math import ceil, inf, log2
from typing import Literal

from routeiq.config.experiments import Experiment

State = Literal["disabled", "planned", "running", "ended"]
_HOUR_S = 3600.0


class Schedule:
    """Times as seconds since the epoch. Only `share` is asked for each request."""

    __slots__ = ("_enabled", "_ramp_start", "_step_s", "end", "start", "traffic")

    def __init__(self, experiment: Experiment) -> None:
        self._enabled = experiment.enabled
        self.start = -inf if experiment.start is None else experiment.start.timestamp()
        self.end = inf if experiment.end is None else experiment.end.timestamp()
        self.traffic = experiment.traffic
        self._ramp_start = self.traffic
        self._step_s = 0.0
        ramp = experiment.ramp
        if ramp is not None and 0.0 < ramp.start < self.traffic:
            # Only doublings: the last one may be smaller, so that `traffic` is met exactly.
            steps = ceil(log2(self.traffic / ramp.start))
            self._ramp_start = ramp.start
            self._step_s = ramp.hours * _HOUR_S / steps

    def share(self, now: float) -> float:
        """Share of subjects that take part now; it never shrinks while the experiment runs."""
        if not self._enabled or now < self.start or now >= self.end:
            return 0.0
        if not self._step_s:
            return self.traffic
        steps = int((now - self.start) / self._step_s)
        return min(self.traffic, self._ramp_start * 2.0 ** min(steps, 64))

    def state(self, now: float) -> State:
        """The same for people."""
        if now >= self.end:
            return "ended"
        if not self._enabled:
            return "disabled"
        return "planned" if now < self.start else "running"
