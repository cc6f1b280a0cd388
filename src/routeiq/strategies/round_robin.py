"""In turn: the deployment that was chosen longest ago goes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, RoutingRequest, StrategyTraits


class RoundRobinStrategy(RoutingStrategy):
    """Fair within one request over any run with the same candidates.

    Least-recently-chosen instead of a running index, so that fairness survives candidates that come and
    go (a breaker that opens, a request that needs vision). One that returns is chosen next, once.
    """

    name: ClassVar[str] = "round-robin"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._turn = 0
        self._chosen: dict[str, int] = {}  # deployment id: turn; as many as are configured

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Higher the longer ago the candidate was chosen; the best one counts as chosen now."""
        chosen = self._chosen
        scores = [-float(chosen.get(candidate.deployment.id, 0)) for candidate in candidates]
        self._turn += 1
        first = candidates[scores.index(max(scores))]
        chosen[first.deployment.id] = self._turn
        return scores
