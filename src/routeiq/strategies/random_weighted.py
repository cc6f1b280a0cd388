"""At random, evenly or by weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from routeiq.base import Options as BaseOptions
from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, Deployment, RoutingRequest, StrategyTraits


class RandomStrategy(RoutingStrategy):
    """Every candidate with the same probability; the order of the rest is random too."""

    name: ClassVar[str] = "random"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference", randomised=True)

    class Options(BaseOptions):
        """Options of `random` and `weighted`."""

        seed: int | None = None
        """Makes the sequence of choices repeatable; by default each process differs."""

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._random = Random(self.options.seed).random

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Independent uniform numbers."""
        random = self._random
        return [random() for _ in candidates]


class WeightedStrategy(RandomStrategy):
    """In proportion to `weight`, else `rpm`, else `tpm` (the first that any candidate has).

    A candidate that lacks the figure the others have is only chosen when they are gone, as in LiteLLM's
    simple-shuffle. Scores are `u ** (1 / w)`: sorted, they are a weighted sample without replacement
    (Efraimidis and Spirakis, 2006), so the fallbacks follow the weights as well.
    """

    name: ClassVar[str] = "weighted"

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Keys of a weighted sample without replacement."""
        random = self._random
        weights = shares([candidate.deployment for candidate in candidates])
        largest = max(weights)
        return [
            (1.0 - random()) ** (largest / weight) if weight > 0.0 else -1.0 for weight in weights
        ]


def shares(deployments: Sequence[Deployment]) -> list[float]:
    """The weight of each deployment; all 1 where no figure is given or all are zero."""
    for figure in ("weight", "rpm", "tpm"):
        values = [float(getattr(deployment, figure) or 0.0) for deployment in deployments]
        if max(values) > 0.0:
            return values
    return [1.0] * len(deployments)
