from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from routeiq import registry
from routeiq.base import RoutingStrategy
from routeiq.config.section import RouteIQSection, StrategyChoice
from routeiq.types import (
    Candidate,
    Decision,
    LoadContext,
    Outcome,
    RoutingRequest,
    StrategyTraits,
)
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, deployment, request

TRIO = (CHEAP, MIDDLE, STRONG)
OUTCOME = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)


class Odd(RoutingStrategy):
    """Does what the test says."""

    name: ClassVar[str] = "odd"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="quality", learns_online=True)
    result: ClassVar[Callable[[int], Any]] = staticmethod(lambda count: [1.0] * count)
    seen: ClassVar[list[str]]

    def load(self, context: LoadContext) -> None:
        self.seen.append(f"load {len(context.deployments)} {context.models_path}")

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        scores: Sequence[float] = type(self).result(len(candidates))
        return scores

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        self.seen.append(f"observe {outcome.status}")

    def close(self) -> None:
        self.seen.append("close")


def fail(count: int) -> list[float]:
    raise RuntimeError("the prompt was: secret")


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> type[Odd]:
    def find(name: str, *, key: str = "") -> Any:
        return Odd if name == "odd" else known(name, key=key)

    known = registry.strategy_class
    monkeypatch.setattr("routeiq.routing.strategy_set.strategy_class", find)
    monkeypatch.setattr(Odd, "result", staticmethod(lambda count: [1.0] * count))
    monkeypatch.setattr(Odd, "seen", [], raising=False)
    return Odd


@pytest.mark.parametrize(
    "result",
    [
        fail,
        lambda count: [1.0] * (count - 1),
        lambda count: [float("nan")] * count,
        lambda count: [float("inf")] + [0.0] * (count - 1),
        lambda count: ["x"] * count,
        lambda count: None,
    ],
    ids=["raises", "short", "nan", "inf", "words", "none"],
)
def test_a_broken_strategy_falls_back_to_balancing_and_says_so(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, result: Callable[[int], Any]
) -> None:
    monkeypatch.setattr(odd, "result", staticmethod(result))
    world = World(TRIO, strategy="odd")
    decision = world.router.decide(request())
    assert decision.strategy == "round-robin"
    assert decision.reason == (
        "strategy odd failed, round-robin instead; "
        "cheap comes first by round-robin of 3 eligible models (3 in auto)"
    )
    assert world.router.strategy_failures == {"odd": 1}
    assert sorted(world.order()) == ["cheap", "middle", "strong"]


def test_failures_are_logged_sparsely_and_without_the_message(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(odd, "result", staticmethod(fail))
    world = World(TRIO, strategy="odd")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            world.choose()
    assert [record.__dict__["failures"] for record in caplog.records] == [1, 2, 4]
    assert caplog.records[0].__dict__["error"].startswith("RuntimeError at ")
    assert "secret" not in caplog.text


def test_where_balancing_fails_too_the_configured_order_holds(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd, "result", staticmethod(fail))
    world = World(
        [deployment("b", "g"), deployment("a", "g"), *TRIO],
        section=RouteIQSection(balancing="odd"),
        strategy="odd",
    )
    decision = world.router.decide(request(model="g"))
    assert [ranked.deployment.id for ranked in decision.ranking] == ["b", "a"]
    assert "balancing odd failed; g was asked for by name; configured order" in decision.reason
    assert world.choose() == "b"


def test_an_explanation_that_fails_is_left_out(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd, "explain", fail)
    world = World(TRIO, strategy="odd")
    assert world.router.decide(request()).reason.startswith("cheap has the best balance")
    assert world.router.strategy_failures == {"odd": 1}


def test_one_choice_in_two_places_is_one_strategy_with_a_life(odd: type[Odd]) -> None:
    world = World(TRIO, section=RouteIQSection(balancing="odd"), strategy="odd")
    assert odd.seen == ["load 3 /app/models"]
    world.router.close()
    assert odd.seen[-1] == "close"


def test_different_options_make_different_strategies() -> None:
    one = StrategyChoice(name="random", options={"seed": 1})
    two = StrategyChoice(name="random", options={"seed": 2})
    world = World(TRIO, section=RouteIQSection(balancing=one, strategy=two))
    strategies = world.router._strategies
    assert strategies.get(one) is not strategies.get(two)
    assert strategies.get(one).options.seed == 1


def test_only_learners_that_decided_observe(odd: type[Odd]) -> None:
    world = World(TRIO, strategy="odd")
    world.router.observe(world.router.decide(request()), OUTCOME)
    world.router.observe(world.router.decide(request(model="cheap")), OUTCOME)
    assert odd.seen[1:] == ["observe 200"]
