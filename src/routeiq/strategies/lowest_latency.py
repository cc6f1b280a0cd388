"""The deployment that has answered fastest of late, with just enough exploration to keep knowing that."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field

from routeiq.base import Options as BaseOptions
from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, RoutingRequest, StrategyTraits


class LowestLatencyStrategy(RoutingStrategy):
    """Lowest smoothed time to the first token; candidates within `buffer` of the best share the traffic.

    A candidate without a recent measurement (new, or not asked for a while) is tried next, but by one
    request at a time: while that is under way the candidate ranks last.
    """

    name: ClassVar[str] = "lowest-latency"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    class Options(BaseOptions):
        """Options of `lowest-latency`."""

        buffer: Annotated[float, Field(ge=0.0)] = 0.1
        """Share above the lowest latency that counts as equally fast, so that noise picks no winner."""
        seed: int | None = None
        """Makes the choice among equals repeatable."""

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._random = Random(self.options.seed).random

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """1 to 2 for one to explore, 0 to 1 among the fastest, minus seconds above them for the others."""
        known = [c.latency_s for c in candidates if c.latency_s is not None]
        fast = min(known, default=0.0) * (1.0 + self.options.buffer)
        slowest = max(known, default=0.0)
        random = self._random
        scores = []
        for candidate in candidates:
            latency = candidate.latency_s
            if latency is None:
                exploring = candidate.in_flight > 0
                scores.append(fast - slowest - candidate.in_flight if exploring else 1.0 + random())
            elif latency <= fast:
                scores.append(random())
            else:
                scores.append(fast - latency)
        return scores
