"""The best model among those that answer within a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from routeiq.base import Options as BaseOptions
from routeiq.types import Candidate, RoutingRequest, StrategyTraits

from .prior import PriorStrategy


class LatencySlaStrategy(PriorStrategy):
    """Best predicted quality among the candidates whose measured latency is within `max_latency_s`.

    Latency is the smoothed time to the first token (to the answer where nothing streams). A candidate without
    a measurement counts as within, so that it gets one. Where all are too slow, the fastest goes first.
    """

    name: ClassVar[str] = "latency-sla"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    class Options(BaseOptions):
        """Options of `latency-sla`."""

        max_latency_s: Annotated[float, Field(gt=0.0)] = 2.0
        """Seconds to the first token that are still acceptable."""

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Predicted quality within the limit; minus the seconds above it beyond."""
        limit = self.options.max_latency_s
        return [
            quality
            if candidate.latency_s is None or candidate.latency_s <= limit
            else limit - candidate.latency_s
            for quality, candidate in zip(
                super().score(request, candidates), candidates, strict=True
            )
        ]

    def explain(self, request: RoutingRequest) -> str:
        """The limit and the difficulty."""
        limit = self.options.max_latency_s
        return f"{super().explain(request)}, the best within {limit:g} s"
