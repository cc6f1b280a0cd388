"""How often a model answers at all: a discounted share that recovers by itself.

Breakers take a dead deployment out; this is for the one that fails every third call.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

SMOOTHING = 0.02
"""Weight of the newest call: the last fifty count for most."""
RECOVERY = 500.0
"""Calls of all models in which a model's failures are forgotten to a third, so that it is tried again."""
MODELS = 512
"""Models remembered."""


class Reliability:
    """The share of calls that each model answered; 1 for one that is not known."""

    __slots__ = ("_calls", "_lost")

    def __init__(self) -> None:
        self._calls = 0
        self._lost: dict[str, tuple[float, int]] = {}

    def share(self, model: str) -> float:
        """The expected share of answered calls, in [0, 1]."""
        found = self._lost.get(model)
        if found is None:
            return 1.0
        lost, at = found
        return 1.0 - lost * exp((at - self._calls) / RECOVERY)

    def add(self, model: str, *, answered: bool) -> None:
        """A call was answered, or failed through no fault of the caller."""
        self._calls += 1
        if answered and model not in self._lost:
            return
        lost = 1.0 - self.share(model)
        if model not in self._lost and len(self._lost) >= MODELS:
            self._lost.pop(next(iter(self._lost)))
        lost += SMOOTHING * ((0.0 if answered else 1.0) - lost)
        self._lost[model] = (lost, self._calls)

    def report(self) -> dict[str, float]:
        """Shares of the models that ever failed."""
        return {model: round(self.share(model), 4) for model in self._lost}

    def snapshot(self) -> dict[str, float]:
        """What `restore` needs, as JSON."""
        return {model: 1.0 - self.share(model) for model in self._lost}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave.

        Raises:
            ValueError: a share is not in [0, 1].
        """
        lost = {str(model): float(one) for model, one in state.items()}
        if not all(0.0 <= one <= 1.0 for one in lost.values()):
            raise ValueError(f"not shares of lost calls: {lost!r}")
        self._lost = {model: (one, self._calls) for model, one in lost.items()}
