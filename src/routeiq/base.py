"""What a stranger subclasses to extend RouteIQ. Built-ins come through the same door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from routeiq.types import (
    Candidate,
    Decision,
    Deployment,
    JsonObject,
    LoadContext,
    Margin,
    Outcome,
    RoutingRequest,
    StrategyTraits,
)


class Ask(Protocol):
    """How a strategy that prepares asks a configured model; its cost is part of the request's."""

    async def __call__(
        self, model: str, messages: list[JsonObject], *, max_tokens: int, timeout_s: float
    ) -> str:
        """The text of the answer of a model group.

        Raises:
            RequestError: no deployment of the group answered in time.
        """
        ...


class Options(BaseModel):
    """Base of an extension's options: strict, frozen, unknown names are errors.

    `model_groups` lists the fields that name a model group; the configuration is refused where there is none.
    """

    model_groups: ClassVar[tuple[str, ...]] = ()

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

    @property
    def prepares(self) -> bool:
        """Whether `prepare` must be awaited before `score`; what `traits` say, unless what was loaded decides."""
        return self.traits.prepares

    def load(self, context: LoadContext) -> None:
        """Read what is needed, once, off the event loop. Default: nothing."""

    def reload(self, context: LoadContext) -> bool:
        """Take what was activated since `load`, if anything; whether something changed.

        Called off the event loop while requests are served: build beside, then swap with one assignment.
        Default: nothing to take.

        Raises:
            ConfigError: what was activated cannot be used; keep what was there.
        """
        return False

    @abstractmethod
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """One finite float per candidate, in order; higher is better, comparable within this call."""

    def explain(self, request: RoutingRequest) -> str:
        """One sentence on what the strategy saw in this request; shown as the decision's reason."""
        return ""

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        """Awaited before `score` where `traits.prepares`: the only place for I/O and long CPU work.

        Keep what was found where `score` finds it (bounded!). If this fails or takes too long, `score` is called
        all the same and must do without. Default: nothing.
        """

    def exploration(self, request: RoutingRequest) -> float:
        """The share of requests, in [0, 1], that go to an eligible model at random to learn. Default: none."""
        return 0.0

    def accept(
        self, request: RoutingRequest, answers: Sequence[tuple[Deployment, JsonObject]]
    ) -> bool:
        """Whether the last of these answers is good enough, where `traits.verifies`.

        `answers` are the plain (not streamed) answers so far, oldest first. False tries the next in the ranking;
        the last in the ranking is always taken. Default: yes.
        """
        return True

    def certified_margin(
        self, reference: str, epsilon: float, delta: float, cost_weight: float | None
    ) -> Margin | None:
        """Which models may stand in for `reference` and within what margin; `None` if nothing was certified.

        Switching so was shown to lose at most `epsilon` of mean quality with confidence 1 - `delta` where the
        objective weighs cost with `cost_weight` (`None`: with any weight). Default: nothing.
        """
        return None

    def expected_output_tokens(self) -> Mapping[str, float]:
        """Mean length of an answer by model group, where training data counted it. Default: none."""
        return {}

    def report(self) -> JsonObject:
        """What the admin API shows of this instance: artifact version, drift, posteriors. Default: nothing."""
        return {}

    def snapshot(self) -> JsonObject | None:
        """What was learned since `load`, as JSON, for `restore` in what takes over. Default: nothing."""
        return None

    def restore(self, state: JsonObject) -> None:
        """Take over what `snapshot` of another instance gave.

        Raises:
            ValueError: it does not fit what is loaded here; nothing was changed.
        """

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Learn from what happened. Default: nothing."""

    def learn(self, request: RoutingRequest, decision: Decision, reward: float) -> None:
        """Learn from feedback: the answer to `request` was worth `reward` in [0, 1]. Default: nothing."""

    def close(self) -> None:
        """Release what `load` took. Default: nothing."""
