"""The deployment with the fewest calls under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, RoutingRequest, StrategyTraits


class LeastBusyStrategy(RoutingStrategy):
    """Fewest calls in flight from this worker. Ties go in turn, so an idle gateway spreads too."""

    name: ClassVar[str] = "least-busy"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._turn = 0

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Minus the calls in flight; the fraction rotates between equals."""
        count = len(candidates)
        self._turn += 1
        turn = self._turn
        return [
            -candidate.in_flight - ((index - turn) % count) / count
            for index, candidate in enumerate(candidates)
        ]
