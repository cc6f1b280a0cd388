"""What a stranger subclasses to extend RouteIQ. Built-ins come through the same door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from routeiq.types import Candidate, Decision, LoadContext, Outcome, RoutingRequest, StrategyTraits


class Options(BaseModel):
    """Base of an extension's options: strict, frozen, unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RoutingStrategy(ABC):
    """Scores candidates; it does not choose. The objective turns scores, prices and latencies into a choice.

    `__init__` only stores. `score` is called for each request on the event loop: it does no I/O, takes
    no lock and stays under 0.3 ms, else `traits.cpu_bound` must say so. Run `routeiq.testing.strategy_checks`
    on your class.
    """

    name: ClassVar[str]
    traits: ClassVar[StrategyTraits] = StrategyTraits()

    class Options(Options):
        """The strategy's settings; nest your own class of this name."""

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def load(self, context: LoadContext) -> None:
        """Read what is needed, once, off the event loop. Default: nothing."""

    @abstractmethod
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """One finite float per candidate, in order; higher is better, comparable within this call."""

    def explain(self, request: RoutingRequest) -> str:
        """One sentence on what the strategy saw in this request; shown as the decision's reason."""
        return ""

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Learn from what happened. Default: nothing."""

    def close(self) -> None:
        """Release what `load` took. Default: nothing."""
