"""The deployment where this request is predicted to cost least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, RoutingRequest, StrategyTraits


class LowestCostStrategy(RoutingStrategy):
    """Lowest predicted cost. An unknown price counts as the dearest known one, never as free.

    Equal costs go to the one with fewer calls in flight.
    """

    name: ClassVar[str] = "lowest-cost"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Minus USD, less a billionth for each call in flight."""
        dearest = max((c.cost_usd for c in candidates if c.cost_usd is not None), default=0.0)
        return [
            -(dearest if candidate.cost_usd is None else candidate.cost_usd)
            - 1e-9 * candidate.in_flight
            for candidate in candidates
        ]
