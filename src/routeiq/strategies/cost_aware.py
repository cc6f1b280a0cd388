"""The cheapest model that is predicted to be good enough for this request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from routeiq.base import Options as BaseOptions
from routeiq.types import Candidate, RoutingRequest, StrategyTraits

from .prior import PriorStrategy


def cheapest_good(
    qualities: Sequence[float], candidates: Sequence[Candidate], floor: float
) -> list[float]:
    """Scores that put the candidates of at least this quality first, cheapest first; then the others, best first.

    An unknown cost counts as the dearest known one, never as free; equal costs go to the better one. Scores of
    the first are in (1, 2], of the others in [0, 1].
    """
    costs = [c.cost_usd for c in candidates if c.cost_usd is not None]
    dearest = max(costs, default=0.0)
    scores = []
    for quality, candidate in zip(qualities, candidates, strict=True):
        if quality < floor:
            scores.append(quality)
            continue
        cost = dearest if candidate.cost_usd is None else candidate.cost_usd
        share = cost / dearest if dearest > 0.0 else 0.0
        scores.append(2.0 - 0.9 * share + 1e-6 * (quality - 1.0))
    return scores


class CostAwareStrategy(PriorStrategy):
    """Cheapest candidate whose predicted quality reaches `min_quality`; where none does, the best one.

    A profile's `min_quality` does the same with any strategy that predicts quality; this is for groups that
    want it whatever the profile.
    """

    name: ClassVar[str] = "cost-aware"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    class Options(BaseOptions):
        """Options of `cost-aware`."""

        min_quality: Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
        """Predicted share of good answers that is good enough."""

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Above 1 for those that are good enough, by cost; else the predicted quality."""
        predicted = super().score(request, candidates)
        return cheapest_good(predicted, candidates, self.options.min_quality)

    def explain(self, request: RoutingRequest) -> str:
        """The floor and the difficulty."""
        said = super().explain(request)
        return f"{said}, the cheapest of predicted quality {self.options.min_quality:g} or more"
