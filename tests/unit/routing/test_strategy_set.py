from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from routeiq import registry
from routeiq.base import RoutingStrategy
from routeiq.config.section import (
    Guarantee,
    Learning,
    Profile,
    RouteIQSection,
    StrategyChoice,
)
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
def test_a_broken_strategy_falls_back_to_the_prior_and_says_so(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, result: Callable[[int], Any]
) -> None:
    monkeypatch.setattr(odd, "result", staticmethod(result))
    world = World(TRIO, strategy="odd")
    decision = world.router.decide(request())
    assert decision.strategy == "prior"
    assert decision.reason.startswith("strategy odd failed, prior instead; difficulty ")
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
    assert world.router.decide(request()).strategy == "prior"


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
    world.router.observe(request(), world.router.decide(request()), OUTCOME)
    world.router.observe(request(), world.router.decide(request(model="cheap")), OUTCOME)
    assert odd.seen[1:] == ["observe 200"]


def explore(share: float) -> Callable[[Odd, RoutingRequest], float]:
    return lambda self, request: share


def test_a_learner_explores_and_the_propensities_say_so(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd, "exploration", explore(0.3))
    world = World(TRIO, strategy="odd")
    decisions = [world.router.decide(request()) for _ in range(600)]
    counts = Counter(decision.chosen.id for decision in decisions)
    best = {"cheap": 0.8, "middle": 0.1, "strong": 0.1}
    assert all(dict(one.propensities or {}) == pytest.approx(best) for one in decisions)
    assert all(d.propensity == d.propensities[d.chosen.id] for d in decisions if d.propensities)
    assert 440 < counts["cheap"] < 520
    assert 30 < counts["strong"] < 95
    drawn = [decision for decision in decisions if decision.explored]
    assert 140 < len(drawn) < 220
    assert all("drawn at random to learn" in decision.reason for decision in drawn)


@pytest.mark.parametrize(("share", "explored"), [(0.0, False), (1.0, True)])
def test_exploration_can_be_none_or_all(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, share: float, explored: bool
) -> None:
    monkeypatch.setattr(odd, "exploration", explore(share))
    decision = World(TRIO, strategy="odd").router.decide(request())
    assert decision.explored is explored
    assert (decision.propensities is not None) is explored


def test_neither_a_hint_nor_a_guarantee_is_overruled_by_exploration(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd, "exploration", explore(1.0))
    promise = Profile(guarantee=Guarantee(reference="strong"))
    world = World(TRIO, section=RouteIQSection(profiles={"sure": promise}), strategy="odd")
    assert not world.router.decide(request(hint="middle")).explored
    decision = world.router.decide(request(profile="sure"))
    assert (decision.explored, decision.chosen.id) == (False, "strong")


def test_a_hint_does_not_break_a_guarantee() -> None:
    promise = Profile(guarantee=Guarantee(reference="strong"))
    world = World(TRIO, section=RouteIQSection(profiles={"sure": promise}))
    decision = world.router.decide(request(profile="sure", hint="cheap"))
    assert (decision.chosen.id, decision.hint_followed) == ("strong", False)
    decision = world.router.decide(request(profile="sure", hint="strong"))
    assert (decision.chosen.id, decision.hint_followed) == ("strong", True)


def test_feedback_reaches_the_learner(odd: type[Odd], monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(self: Odd, request: RoutingRequest, decision: Decision, reward: float) -> None:
        self.seen.append(f"learn {request.text} {decision.chosen.id} {reward}")

    monkeypatch.setattr(odd, "learn", learn, raising=False)
    world = World(TRIO, strategy="odd")
    assert world.router.learn(request("Hi"), world.router.decide(request()), 0.5) == 1
    assert odd.seen[1:] == ["learn Hi cheap 0.5"]


def test_a_strategy_that_is_too_slow_again_and_again_is_set_aside_for_a_while(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(TRIO, strategy="odd")

    def slow(count: int) -> list[float]:
        world.clock.advance(0.2)
        return [1.0] * count

    monkeypatch.setattr(odd, "result", staticmethod(slow))
    found = [world.router.decide(request()).strategy for _ in range(7)]
    assert found == ["odd"] * 5 + ["prior"] * 2
    assert world.router.strategy_suspensions == {"odd": 1}
    assert (
        "strategy odd was too slow lately, prior instead" in world.router.decide(request()).reason
    )
    world.clock.advance(31)
    assert world.router.decide(request()).strategy == "odd"


def test_a_longer_time_budget_lets_it_be(odd: type[Odd], monkeypatch: pytest.MonkeyPatch) -> None:
    section = RouteIQSection(learning=Learning(time_budget_ms=50))
    world = World(TRIO, strategy="odd", section=section)

    def slow(count: int) -> list[float]:
        world.clock.advance(0.2)
        return [1.0] * count

    monkeypatch.setattr(odd, "result", staticmethod(slow))
    assert {world.router.decide(request()).strategy for _ in range(9)} == {"odd"}


def test_what_a_reload_brings_may_have_to_leave_the_event_loop(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(TRIO, strategy="odd")
    assert not world.router.is_slow(request())
    monkeypatch.setattr(odd, "prepares", property(lambda self: True), raising=False)
    monkeypatch.setattr(odd, "reload", lambda self, context: True, raising=False)
    assert world.router.reload() == ["odd"]
    assert world.router.is_slow(request())
    assert not world.router.is_slow(request(model="cheap"))
