"""Every built-in strategy passes the checks that third parties run, and the checks catch what they should."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from routeiq.base import RoutingStrategy
from routeiq.registry import BUILTIN_STRATEGIES, strategy_class
from routeiq.testing import StrategyCheck, strategy_checks
from routeiq.types import Candidate, RoutingRequest, StrategyTraits


@pytest.mark.parametrize("name", BUILTIN_STRATEGIES)
@pytest.mark.parametrize("check", strategy_checks())
def test_builtin_strategy(name: str, check: StrategyCheck) -> None:
    check(strategy_class(name))


@pytest.mark.parametrize("name", BUILTIN_STRATEGIES)
def test_registered_name_is_the_strategys_own(name: str) -> None:
    assert strategy_class(name).name == name


class Good(RoutingStrategy):
    """The least a strategy can be."""

    name: ClassVar[str] = "good"

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [0.0] * len(candidates)


@pytest.mark.parametrize("check", strategy_checks())
def test_smallest_strategy_passes(check: StrategyCheck) -> None:
    check(Good)


class Nameless(Good):
    name: ClassVar[str] = ""


class Short(Good):
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [0.0]


class NotANumber(Good):
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [float("nan")] * len(candidates)


class Needy(Good):
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [each.cost_usd * 1.0 for each in candidates]  # type: ignore[operator]


class Destructive(Good):
    def score(self, request: RoutingRequest, candidates: Any) -> Sequence[float]:
        count = len(candidates)
        candidates.reverse()
        return [0.0] * count


class Erratic(Good):
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [time.perf_counter()] * len(candidates)


class Mute(Good):
    def explain(self, request: RoutingRequest) -> str:
        return None  # type: ignore[return-value]


class Forgetful(Good):
    def observe(self, decision: Any, outcome: Any) -> None:
        outcome.deployment.id  # noqa: B018 - fails where nobody answered


class Fragile(Good):
    def close(self) -> None:
        del self.options


class Slow(Good):
    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        end = time.perf_counter() + 0.4e-3
        while time.perf_counter() < end:
            pass
        return [0.0] * len(candidates)


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (Nameless, "check_declares_itself"),
        (Short, "check_scores_are_finite_and_match_candidates"),
        (NotANumber, "check_takes_any_text"),
        (Needy, "check_takes_candidates_about_which_nothing_is_known"),
        (Destructive, "check_changes_nothing_it_was_given"),
        (Erratic, "check_repeats_itself"),
        (Mute, "check_takes_any_text"),
        (Forgetful, "check_learns_without_failing"),
        (Fragile, "check_loads_and_closes_twice"),
        (Slow, "check_stays_within_the_time_budget"),
    ],
)
def test_broken_strategy_is_caught(broken: type[Good], caught_by: str) -> None:
    check = next(each for each in strategy_checks() if each.__name__ == caught_by)
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        check(broken)


def test_cpu_bound_strategies_have_no_time_budget() -> None:
    class Patient(Slow):
        traits: ClassVar[StrategyTraits] = StrategyTraits(cpu_bound=True)

    check = next(each for each in strategy_checks() if each.__name__.endswith("time_budget"))
    check(Patient)
