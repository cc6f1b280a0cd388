from __future__ import annotations

from collections import Counter

import pytest

from routeiq.config.model import RouterConfig
from routeiq.config.section import RouteIQSection
from routeiq.routing.ranking import LONGEST_RANKING
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, deployment, facts, request

TRIO = (CHEAP, MIDDLE, STRONG)


def test_named_group_is_balanced_in_turn() -> None:
    world = World([deployment("a1", "a"), deployment("a2", "a"), deployment("a3", "a")])
    assert [world.choose(model="a") for _ in range(6)] == ["a1", "a2", "a3"] * 2
    decision = world.router.decide(request(model="a"))
    assert decision.strategy == "round-robin"
    assert decision.reason == "a was asked for by name; round-robin over 3 of 3 deployments"


@pytest.mark.parametrize("balancing", ["least-busy", "lowest-latency", "lowest-cost", "weighted"])
def test_balancing_is_the_operators_choice(balancing: str) -> None:
    one = deployment("one", "g", facts=facts((9.0, 9.0)), weight=0.0)
    two = deployment("two", "g", facts=facts((1.0, 1.0)), weight=1.0)
    world = World([one, two], router=RouterConfig(balancing=balancing))
    world.load.first_token("one", 2.0)
    world.load.first_token("two", 0.5)
    world.load.started("one")
    decision = world.router.decide(request(model="g", stream=True))
    assert (decision.chosen.id, decision.strategy) == ("two", balancing)


def test_sections_balancing_wins_over_router_settings() -> None:
    world = World(
        TRIO,
        section=RouteIQSection(balancing="least-busy"),
        router=RouterConfig(balancing="random"),
    )
    assert world.router.balancing_name == "least-busy"


def test_lower_order_goes_first_and_the_rest_is_the_fallback() -> None:
    pool = [
        deployment("late", "g", order=2),
        deployment("b", "g", order=1),
        deployment("a", "g", order=1),
    ]
    world = World(pool)
    assert {tuple(world.order(model="g")) for _ in range(4)} == {
        ("b", "a", "late"),
        ("a", "b", "late"),
    }
    world.breakers.failure("a")
    world.breakers.failure("b")
    assert world.order(model="g") == ["late"]


def test_within_the_chosen_group_of_a_routing_group_balancing_decides() -> None:
    pool = [deployment(f"c{i}", "c", facts=facts((0.1, 0.1))) for i in range(3)]
    world = World([STRONG, *pool])
    assert [world.choose() for _ in range(6)] == ["c0", "c1", "c2"] * 2
    assert world.order()[-1] == "strong"


def test_round_robin_stays_fair_under_alternating_traffic() -> None:
    pool = [deployment(f"c{i}", "c", facts=facts((0.1, 0.1))) for i in range(2)]
    pool += [deployment(f"s{i}", "s", facts=facts((15.0, 60.0))) for i in range(2)]
    world = World(pool)
    seen = Counter(
        world.choose(profile=profile) for _ in range(10) for profile in ("auto", "premium")
    )
    assert seen == {"c0": 5, "c1": 5, "s0": 5, "s1": 5}


def test_later_groups_go_least_busy_first_and_ties_at_random() -> None:
    pool = [deployment(f"s{i}", "s", facts=facts((15.0, 60.0))) for i in range(3)]
    world = World([CHEAP, *pool])
    world.load.started("s0")
    seconds = Counter(world.order()[1] for _ in range(100))
    assert set(seconds) == {"s1", "s2"}


def test_hint_puts_an_eligible_model_first() -> None:
    world = World(TRIO)
    decision = world.router.decide(request(hint="strong"))
    assert [ranked.deployment.id for ranked in decision.ranking] == ["strong", "cheap", "middle"]
    assert decision.hint_followed is True
    assert "strong was hinted" in decision.reason


def test_hint_may_name_the_upstream_model() -> None:
    world = World([CHEAP, deployment("x", model="gpt-9", facts=facts((9.0, 9.0)))])
    assert world.choose(hint="gpt-9") == "x"


@pytest.mark.parametrize(("hint", "followed"), [("strong", True), ("cheap", False)])
def test_hint_beside_a_named_model_is_only_reported(hint: str, followed: bool) -> None:
    decision = World(TRIO).router.decide(request(model="strong", hint=hint))
    assert (decision.chosen.id, decision.hint_followed) == ("strong", followed)


def test_hint_at_an_unhealthy_or_unknown_model_is_not_followed() -> None:
    world = World(TRIO)
    world.breakers.failure("strong")
    for hint in ("strong", "nobody"):
        decision = world.router.decide(request(hint=hint))
        assert (decision.chosen.id, decision.hint_followed) == ("cheap", False)
        assert "hinted" not in decision.reason


def test_preference_strategies_order_without_the_objective() -> None:
    world = World(TRIO, strategy="lowest-cost")
    decision = world.router.decide(request(profile="premium"))
    assert decision.chosen.id == "cheap"
    assert decision.ranking[0].utility == decision.ranking[0].score
    assert decision.reason == "cheap comes first by lowest-cost of 3 eligible models (3 in auto)"


def test_only_one_eligible_model_says_so() -> None:
    world = World([CHEAP, MIDDLE])
    world.breakers.failure("cheap")
    reason = world.router.decide(request("x")).reason
    assert reason.endswith("middle is the only eligible model of 2 in auto")


def test_rankings_are_bounded() -> None:
    many = [deployment(f"d{i}") for i in range(40)]
    assert len(World(many).order()) == LONGEST_RANKING
    grouped = [deployment(f"d{i}", "g") for i in range(40)]
    assert len(World(grouped).order(model="g")) == LONGEST_RANKING
    assert len(World([*grouped, CHEAP]).order()) == LONGEST_RANKING
