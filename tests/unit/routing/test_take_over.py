from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.section import Budget, Profile, RouteIQSection
from routeiq.exceptions import ConfigError
from routeiq.types import Outcome, Usage
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, request

TRIO = (CHEAP, MIDDLE, STRONG)


def world(auto: str | None = None, **profile: Any) -> World:
    profiles = {"own": Profile(**profile)} if profile else {}
    return World(
        TRIO,
        section=RouteIQSection(
            profile="own" if profile else "auto", profiles=profiles, strategy=auto
        ),
    )


def test_an_override_is_for_auto_only_and_can_be_taken_back() -> None:
    one = world("cost-aware")
    configured = one.router.decide(request()).strategy
    one.router.activate("largest")
    assert one.router.strategy_name == "largest"
    assert one.router.decide(request()).strategy == "largest"
    one.router.activate(None)
    assert one.router.decide(request()).strategy == configured == "cost-aware"
    own = world(strategy="smallest")
    own.router.activate("largest")
    assert own.router.decide(request(profile="own")).strategy == "smallest", "its own choice counts"


def test_what_cannot_be_loaded_leaves_the_override_that_was() -> None:
    one = world()
    one.router.activate("largest")
    with pytest.raises(ConfigError):
        one.router.activate("nonsense")
    assert one.router.strategy_name == "largest"
    assert one.router.decide(request()).strategy == "largest"


def test_a_strategy_that_a_variant_names_decides_once_it_is_there() -> None:
    one = world()
    one.router.ensure("smallest")
    assert one.router.decide(request(strategy="smallest")).strategy == "smallest"
    assert one.router.decide(request()).strategy != "smallest"
    with pytest.raises(ConfigError):
        one.router.ensure("nonsense")


def learn(one: World, count: int) -> None:
    for _ in range(count):
        asked = request()
        decision = one.router.decide(asked)
        outcome = Outcome(
            kind="success",
            status=200,
            deployment=decision.chosen,
            attempts=(),
            latency_ms=10.0,
            usage=Usage(input_tokens=10, output_tokens=10),
            cost_usd=1e-4,
        )
        one.router.observe(asked, decision, outcome)
        one.router.learn(asked, decision, 1.0)


def test_what_was_learned_goes_on() -> None:
    old, new = world("adaptive"), world("adaptive")
    learn(old, 30)
    (before,) = [r for name, r in old.router.strategy_reports().items() if name == "adaptive"]
    assert new.router.strategy_reports()["adaptive"] != before
    new.router.take_over(old.router)
    assert new.router.strategy_reports()["adaptive"] == before


def test_with_other_options_nothing_is_taken() -> None:
    old, new = world("linucb"), world("cost-aware")
    learn(old, 5)
    new.router.take_over(old.router)
    assert "linucb" not in new.router.strategy_reports()


BUDGET = Budget(usd_per_request=0.001)


@pytest.mark.parametrize(
    ("changed", "same"),
    [({}, True), ({"budget": Budget(usd_per_request=0.002)}, False), ({"cost_weight": 0.9}, False)],
)
def test_spending_goes_on_where_the_budget_is_the_same(changed: Any, same: bool) -> None:
    old = world(budget=BUDGET)
    learn(old, 20)
    new = world(**{"budget": BUDGET, **changed})
    fresh = new.router.budget_reports()["own"]
    new.router.take_over(old.router)
    found = new.router.budget_reports()["own"]
    assert (found == old.router.budget_reports()["own"]) is same
    assert (found == fresh) is not same


def test_a_budget_that_is_gone_is_gone() -> None:
    old, new = world(budget=BUDGET), world()
    new.router.take_over(old.router)
    assert new.router.budget_reports() == {}


def test_a_strategy_that_fails_to_say_what_it_learned_loses_that_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = world("linucb"), world("linucb")

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("theirs")

    kind = type(old.router._strategies.get("linucb"))
    with monkeypatch.context() as patched:
        patched.setattr(kind, "snapshot", broken)
        new.router.take_over(old.router)
    assert new.router.strategy_failures == {"linucb": 1}
    with monkeypatch.context() as patched:
        patched.setattr(kind, "snapshot", lambda _: {})
        patched.setattr(kind, "restore", broken)
        new.router.take_over(old.router)
    assert new.router.strategy_failures == {"linucb": 2}
    assert new.router.decide(request()).strategy == "linucb"
