"""Always the smallest, or always the largest model: the two ends that every other strategy is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, Deployment, RoutingRequest, StrategyTraits

from .quality import parameters, quality, quality_of_name


def size_of(deployment: Deployment) -> float:
    """How large a model is, comparable between models: by the parameters in its name, else by its price.

    Both are put on the scale of `quality.py`, so that a `70b` can be compared with a priced model that does not
    tell its size. What the operator says about quality is no size and is not looked at.
    """
    if parameters(deployment.model) is not None:
        return quality_of_name(deployment.model) or 0.0
    return quality(replace(deployment.facts, quality=None, tier=None), deployment.model)


class SmallestStrategy(RoutingStrategy):
    """The smallest model first. Equals go to the one that is predicted to cost less."""

    name: ClassVar[str] = "smallest"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Minus the size."""
        return [-size_of(each.deployment) - _price(each) for each in candidates]

    def explain(self, request: RoutingRequest) -> str:
        """The rule."""
        return "the smallest model"


class LargestStrategy(RoutingStrategy):
    """The largest model first. Equals go to the one that is predicted to cost less."""

    name: ClassVar[str] = "largest"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """The size."""
        return [size_of(each.deployment) - _price(each) for each in candidates]

    def explain(self, request: RoutingRequest) -> str:
        """The rule."""
        return "the largest model"


def _price(candidate: Candidate) -> float:
    return 1e-6 * (candidate.cost_usd or 0.0)
