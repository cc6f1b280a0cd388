"""Every built-in strategy passes the checks that third parties run, and the checks catch what they should."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from routeiq.base import RoutingStrategy
from routeiq.registry import BUILTIN_STRATEGIES, strategy_class
from routeiq.strategies.learned import LearnedStrategy
from routeiq.testing import (
    StrategyCheck,
    StrategyFactory,
    check_stays_within_the_time_budget,
    sample_candidates,
    sample_request,
    strategy_checks,
)
from routeiq.types import Candidate, LoadContext, RoutingRequest, StrategyTraits
from tests.support.artifacts import tiny_artifact


@pytest.mark.parametrize("name", BUILTIN_STRATEGIES)
@pytest.mark.parametrize("check", strategy_checks())
def test_builtin_strategy(name: str, check: StrategyCheck) -> None:
    check(strategy_class(name))


@pytest.mark.parametrize("name", BUILTIN_STRATEGIES)
def test_registered_name_is_the_strategys_own(name: str) -> None:
    assert strategy_class(name).name == name


TRIES = 5
"""How often a time budget may be measured: other work on the machine slows down whole runs."""


def passes(check: StrategyCheck, factory: StrategyFactory) -> None:
    """Run a check; one that measures time as often as `TRIES` says."""
    for _ in range(TRIES - 1 if check is check_stays_within_the_time_budget else 0):
        try:
            return check(factory)
        except AssertionError:
            time.sleep(0.05)
    return check(factory)


LEARNED = tuple(
    name for name in BUILTIN_STRATEGIES if issubclass(strategy_class(name), LearnedStrategy)
)
"""Those that take an artifact; without one they stand in for the prior, which is checked above."""


def test_every_learned_strategy_is_among_those_that_are_checked_with_an_artifact() -> None:
    assert {"hybrid", "knn", "cluster", "svm", "logistic", "elo", "mlp", "mf", "irt"} <= set(
        LEARNED
    )
    assert {"adaptive", "linucb"} <= set(LEARNED)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny artifact of a kind, trained when first asked for."""
    root = tmp_path_factory.mktemp("models")

    def made(kind: str) -> str:
        if not (root / kind).exists():
            tiny_artifact(root / kind, kind)
        return str(root / kind)

    return made


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("check", strategy_checks())
def test_builtin_strategy_with_an_artifact(
    name: str, check: StrategyCheck, trained: Callable[[str], str]
) -> None:
    kind = strategy_class(name)
    passes(check, lambda: kind(kind.Options(artifact=trained(name))))


@pytest.mark.parametrize("name", LEARNED)
def test_an_artifact_is_what_predicts(name: str, trained: Callable[[str], str]) -> None:
    kind = strategy_class(name)
    candidates = sample_candidates(3)
    deployments = tuple(each.deployment for each in candidates)
    context = LoadContext(deployments=deployments, models_path="")
    with_artifact, without = kind(kind.Options(artifact=trained(name))), kind()
    for strategy in (with_artifact, without):
        strategy.load(context)
    scores, prior = (each.score(sample_request(), candidates) for each in (with_artifact, without))
    assert list(scores) != list(prior)
    assert with_artifact.report()["artifact"] is not None
    assert without.report()["artifact"] is None


@pytest.mark.parametrize("check", strategy_checks())
def test_threshold_over_a_trained_predictor(
    check: StrategyCheck, trained: Callable[[str], str]
) -> None:
    kind = strategy_class("threshold")
    passes(check, lambda: kind(kind.Options(using="knn", artifact=trained("knn"), threshold=0.5)))


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
        end = time.thread_time() + 0.4e-3
        while time.thread_time() < end:
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
