"""The strategies that a configuration names, made once; and the fire-wall around their code."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from traceback import extract_tb
from typing import Any

from pydantic import ValidationError

from routeiq.base import RoutingStrategy
from routeiq.config.section import StrategyChoice
from routeiq.exceptions import ConfigError, Problem, StrategyError
from routeiq.registry import strategy_class
from routeiq.types import Candidate, Decision, LoadContext, Outcome, RoutingRequest

_log = logging.getLogger(__name__)
Choice = StrategyChoice | str


class StrategySet:
    """Instances by name and options: the same choice in two places is one strategy with one state."""

    def __init__(self, choices: Mapping[str, Choice | None], context: LoadContext) -> None:
        """Make and load the strategy of each configuration key that names one.

        Raises:
            ConfigError: unknown names and options, all of them.
        """
        self._made: dict[tuple[str, str], RoutingStrategy] = {}
        self.failures: Counter[str] = Counter()
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
        self._learners = [s for s in self._made.values() if s.traits.learns_online]

    def close(self) -> None:
        """Close every strategy."""
        for strategy in self._made.values():
            strategy.close()

    def get(self, choice: Choice) -> RoutingStrategy:
        """The instance for a choice that was loaded."""
        return self._made[_identity(choice)]

    def scores(
        self, strategy: RoutingStrategy, request: RoutingRequest, candidates: Sequence[Candidate]
    ) -> Sequence[float] | None:
        """The strategy's scores; `None` where it raised or broke its contract, counted and logged."""
        given: Sequence[float] | None
        given = self._guarded(strategy, _checked, strategy, request, candidates)
        return given

    def explanation(self, strategy: RoutingStrategy, request: RoutingRequest) -> str:
        """The strategy's own sentence, empty where it failed."""
        return str(self._guarded(strategy, strategy.explain, request) or "")

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Tell the strategies that learn online and made this decision."""
        for strategy in self._learners:
            if strategy.name == decision.strategy:
                self._guarded(strategy, strategy.observe, decision, outcome)

    def _guarded(self, strategy: RoutingStrategy, call: Callable[..., Any], *given: object) -> Any:
        """Fire-wall: a strategy may be anybody's code, and its failure must not fail a request."""
        try:
            return call(*given)
        except Exception as error:
            self.failures[strategy.name] += 1
            count = self.failures[strategy.name]
            if count & (count - 1) == 0:  # at 1, 2, 4, 8 ...: the log must not be flooded
                frame = extract_tb(error.__traceback__)[-1]  # no message: it could hold the prompt
                where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
                extra = {"strategy": strategy.name, "failures": count, "error": where}
                _log.warning("strategy failed", extra=extra)
            return None


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
