"""The strategies that a configuration names, made once; and the fire-wall around their code."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from traceback import extract_tb
from typing import Any

from pydantic import ValidationError

from routeiq.base import Ask, RoutingStrategy
from routeiq.config.section import StrategyChoice
from routeiq.exceptions import ConfigError, Problem, StrategyError
from routeiq.ports import Clock
from routeiq.registry import strategy_class
from routeiq.types import (
    Candidate,
    Decision,
    Deployment,
    JsonObject,
    LoadContext,
    Outcome,
    RoutingRequest,
)

from .pace import Pace

_log = logging.getLogger(__name__)
Choice = StrategyChoice | str


class StrategySet:
    """Instances by name and options: the same choice in two places is one strategy with one state."""

    def __init__(
        self,
        choices: Mapping[str, Choice | None],
        context: LoadContext,
        *,
        fallback: Choice,
        clock: Clock,
        time_budget_s: float,
    ) -> None:
        """Make and load the strategy of each configuration key that names one, and the `fallback`.

        Raises:
            ConfigError: unknown names and options, all of them.
        """
        self._made: dict[tuple[str, str], RoutingStrategy] = {}
        self._context = context
        self._pace = Pace(clock, time_budget_s)
        self.failures: Counter[str] = Counter()
        choices = {**choices, "fallback": fallback}
        problems: list[Problem] = []
        for key, choice in choices.items():
            if choice is not None and _identity(choice) not in self._made:
                try:
                    self._made[_identity(choice)] = make(choice, key=key)
                except ConfigError as error:
                    problems.extend(error.problems)
        if problems:
            raise ConfigError(problems)
        for strategy in self._made.values():
            strategy.load(context)
        self.fallback = self.get(fallback)
        self._learners = [s for s in self._made.values() if s.traits.learns_online]
        self.verifiers = [s for s in self._made.values() if s.traits.verifies]
        self.any_slow = self._any_slow()

    def _any_slow(self) -> bool:
        """Whether any strategy must leave the event loop; what a reload brings may change it."""
        return any(s.traits.cpu_bound or self.prepares(s) for s in self._made.values())

    def prepares(self, strategy: RoutingStrategy) -> bool:
        """Whether the strategy wants to prepare; no where it failed to say."""
        try:
            return strategy.prepares
        except Exception as error:
            self._failed(strategy, error)
            return False

    async def prepare(
        self, strategy: RoutingStrategy, request: RoutingRequest, ask: Ask, timeout_s: float
    ) -> None:
        """Await the strategy's preparation, at most `timeout_s`; failures are counted, none is raised."""
        try:
            async with asyncio.timeout(timeout_s):
                await strategy.prepare(request, ask)
        except Exception as error:
            self._failed(strategy, error)

    def accepts(
        self,
        strategy: RoutingStrategy,
        request: RoutingRequest,
        answers: Sequence[tuple[Deployment, JsonObject]],
    ) -> bool:
        """What the strategy says of the last answer; yes where it failed."""
        return self._guarded(strategy, strategy.accept, request, answers) is not False

    @property
    def slow(self) -> dict[str, int]:
        """How often each strategy was suspended for taking too long."""
        return dict(self._pace.suspensions)

    def names(self) -> list[str]:
        """The strategies that were made."""
        return [strategy.name for strategy in self._made.values()]

    def expected_output_tokens(self) -> dict[str, float]:
        """What the strategies know of the lengths of answers, by model group."""
        found: dict[str, float] = {}
        for strategy in self._made.values():
            found.update(self._guarded(strategy, strategy.expected_output_tokens) or {})
        return found

    def reports(self) -> dict[str, JsonObject]:
        """What each strategy says about itself, by name."""
        return {strategy.name: strategy.report() for strategy in self._made.values()}

    def ensure(self, choice: Choice) -> RoutingStrategy:
        """The instance for a choice, made and loaded now if it is new. Blocks: call it off the event loop.

        Raises:
            ConfigError: it cannot be made or loaded.
        """
        if _identity(choice) not in self._made:
            strategy = make(choice, key="routeiq.strategy")
            strategy.load(self._context)
            self._made = {**self._made, _identity(choice): strategy}
            if strategy.traits.learns_online:
                self._learners = [*self._learners, strategy]
            if strategy.traits.verifies:
                self.verifiers = [*self.verifiers, strategy]
            self.any_slow = self._any_slow()
        return self._made[_identity(choice)]

    def reload(self) -> list[str]:
        """Let every strategy take what was activated since; names of those that did. Blocks, as `ensure`.

        Raises:
            ConfigError: an artifact cannot be used; the strategies keep what they have.
        """
        problems: list[Problem] = []
        changed = []
        for strategy in self._made.values():
            try:
                if strategy.reload(self._context):
                    changed.append(strategy.name)
            except ConfigError as error:
                problems.extend(error.problems)
        self.any_slow = self._any_slow()
        if problems:
            raise ConfigError(problems)
        return changed

    def close(self) -> None:
        """Close every strategy."""
        for strategy in self._made.values():
            strategy.close()

    def take_over(self, old: StrategySet) -> None:
        """Let each strategy go on with what the same one has learned in another set. What does not fit is lost."""
        for identity, strategy in self._made.items():
            before = old._made.get(identity)
            state = None if before is None else self._guarded(before, before.snapshot)
            if state is None:
                continue
            try:
                strategy.restore(state)
            except ValueError as error:
                extra = {"strategy": strategy.name, "error": str(error)}
                _log.warning("what a strategy has learned does not fit any more", extra=extra)
            except Exception as error:
                self._failed(strategy, error)

    def get(self, choice: Choice) -> RoutingStrategy:
        """The instance for a choice that was loaded."""
        return self._made[_identity(choice)]

    def scores(
        self, strategy: RoutingStrategy, request: RoutingRequest, candidates: Sequence[Candidate]
    ) -> Sequence[float] | None:
        """The strategy's scores; `None` where it raised or broke its contract, counted and logged."""
        given: Sequence[float] | None
        if self._pace.suspended and self._pace.is_suspended(strategy.name):
            return None
        started = self._pace.start()
        given = self._guarded(strategy, _checked, strategy, request, candidates)
        self._pace.stop(strategy.name, started)
        return given

    def trouble(self, strategy: RoutingStrategy) -> str:
        """Why `scores` gave nothing, in words."""
        return "was too slow lately" if strategy.name in self._pace.suspended else "failed"

    def exploration(self, strategy: RoutingStrategy, request: RoutingRequest) -> float:
        """The share of requests that the strategy wants to explore with; 0 where it failed."""
        return min(1.0, float(self._guarded(strategy, strategy.exploration, request) or 0.0))

    def explanation(self, strategy: RoutingStrategy, request: RoutingRequest) -> str:
        """The strategy's own sentence, empty where it failed."""
        return str(self._guarded(strategy, strategy.explain, request) or "")

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Tell the strategies that learn online and made this decision."""
        for strategy in self._learners:
            if strategy.name == decision.strategy:
                self._guarded(strategy, strategy.observe, decision, outcome)

    def learn(self, request: RoutingRequest, decision: Decision, reward: float) -> int:
        """Pass feedback to the strategies that learn online; how many took it."""
        for strategy in self._learners:
            self._guarded(strategy, strategy.learn, request, decision, reward)
        return len(self._learners)

    def _guarded(self, strategy: RoutingStrategy, call: Callable[..., Any], *given: object) -> Any:
        """Fire-wall: a strategy may be anybody's code, and its failure must not fail a request."""
        try:
            return call(*given)
        except Exception as error:
            self._failed(strategy, error)
            return None

    def _failed(self, strategy: RoutingStrategy, error: Exception) -> None:
        self.failures[strategy.name] += 1
        count = self.failures[strategy.name]
        if count & (count - 1) == 0:  # at 1, 2, 4, 8 ...: the log must not be flooded
            frame = extract_tb(error.__traceback__)[-1]  # no message: it could hold the prompt
            where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
            extra = {"strategy": strategy.name, "failures": count, "error": where}
            _log.warning("strategy failed", extra=extra)


def make(choice: Choice, *, key: str) -> RoutingStrategy:
    """A new instance of the strategy that `choice` names, with its options checked."""
    name, options = (choice, {}) if isinstance(choice, str) else (choice.name, choice.options)
    found = strategy_class(name, key=key)
    try:
        strategy: RoutingStrategy = found(found.Options(**options))
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(
                    key=".".join([key, "options", *map(str, detail["loc"])]),
                    message=f"{detail['msg']}, not {detail['input']!r}.",
                    fix=f"Options of {name!r}: {', '.join(found.Options.model_fields) or 'none'}.",
                )
                for detail in error.errors()
            ]
        ) from error
    return strategy


def _identity(choice: Choice) -> tuple[str, str]:
    if isinstance(choice, str):
        return choice, ""
    return choice.name, repr(sorted(choice.options.items())) if choice.options else ""


def _checked(
    strategy: RoutingStrategy, request: RoutingRequest, candidates: Sequence[Candidate]
) -> Sequence[float]:
    scores = strategy.score(request, candidates)
    if len(scores) != len(candidates):
        raise StrategyError(
            f"{strategy.name!r} gave {len(scores)} scores for {len(candidates)} candidates."
        )
    if not isfinite(sum(scores)):
        raise StrategyError(f"{strategy.name!r} gave a score that is not a finite number.")
    return scores
