from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.model import RouterConfig
from routeiq.config.section import Profile, RouteIQSection
from routeiq.routing.ranking import LONGEST_RANKING, Ranking, sticking
from routeiq.types import Ranked
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, candidate, deployment, request

TWIN = deployment("cheap-2", "cheap", facts=CHEAP.facts)


def ranking(*deployments: Any, **more: Any) -> Ranking:
    entries = [
        Ranked(deployment=one, score=1.0 - n / 10, utility=1.0 - n / 10)
        for n, one in enumerate(deployments)
    ]
    return Ranking(entries, "prior", "because", more.pop("hinted", None), **more)


def ids(found: Ranking) -> list[str]:
    return [one.deployment.id for one in found.entries]


def field(*deployments: Any) -> list[Any]:
    return [candidate(one.id, of=one) for one in deployments]


def test_the_conversations_deployment_goes_first_and_the_others_keep_their_order() -> None:
    before = ranking(CHEAP, MIDDLE, STRONG, propensity=0.25, explored=True)
    found = sticking(before, "strong", field(CHEAP, MIDDLE, STRONG), certified=False)
    assert ids(found) == ["strong", "cheap", "middle"]
    assert found.reason == "the conversation stays with strong"
    assert found.strategy == "prior"
    assert (found.propensity, found.propensities, found.explored) == (1.0, None, False)


def test_one_that_may_not_answer_now_is_left() -> None:
    before = ranking(CHEAP, MIDDLE)
    assert sticking(before, "strong", field(CHEAP, MIDDLE), certified=False) is before


@pytest.mark.parametrize(
    ("stick", "certified", "order"),
    [
        ("middle", True, ["cheap", "cheap-2", "middle"]),
        ("cheap-2", True, ["cheap-2", "cheap", "middle"]),
        ("middle", False, ["middle", "cheap", "cheap-2"]),
    ],
)
def test_what_is_guaranteed_goes_before(stick: str, certified: bool, order: list[str]) -> None:
    before = ranking(CHEAP, TWIN, MIDDLE)
    found = sticking(before, stick, field(CHEAP, TWIN, MIDDLE), certified=certified)
    assert ids(found) == order


def test_one_beyond_the_end_of_the_ranking_is_found() -> None:
    many = [deployment(f"d{n}", "pool") for n in range(LONGEST_RANKING + 5)]
    before = ranking(*many[:LONGEST_RANKING])
    found = sticking(before, many[-1].id, field(*many), certified=False)
    assert found.entries[0].deployment is many[-1]
    assert len(found.entries) == LONGEST_RANKING
    assert found.entries[0].score == before.entries[-1].score


def test_a_large_group_keeps_its_conversations() -> None:
    world = World(tuple(deployment(f"d{n}", "pool") for n in range(40)))
    for id in ("d0", "d20", "d39"):
        for _ in range(10):
            decision = world.router.decide(request(model="pool", stick=id))
            assert decision.chosen.id == id


def test_a_hint_is_for_this_turn_and_goes_before_the_conversation() -> None:
    world = World((CHEAP, MIDDLE, STRONG))
    decision = world.router.decide(request(stick="cheap", hint="strong"))
    assert decision.chosen.id == "strong"
    assert world.router.decide(request(stick="cheap", hint="none")).chosen.id == "cheap"


def test_an_open_breaker_breaks_it() -> None:
    world = World((CHEAP, MIDDLE))
    assert world.router.decide(request(stick="cheap")).chosen.id == "cheap"
    world.breakers.open_remotely("cheap", 30.0)
    assert world.router.decide(request(stick="cheap")).chosen.id == "middle"


def test_it_cannot_go_round_a_guarantee_or_a_profile() -> None:
    section = RouteIQSection(profile="own", profiles={"own": Profile(models=("cheap", "middle"))})
    world = World((CHEAP, MIDDLE, STRONG), section=section, router=RouterConfig())
    assert world.router.decide(request(stick="strong")).chosen.id != "strong"
