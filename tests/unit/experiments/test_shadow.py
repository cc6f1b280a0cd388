from __future__ import annotations

from dataclasses import replace

import pytest

from routeiq.exceptions import NoHealthyDeployment
from routeiq.experiments.exposure import group
from routeiq.experiments.results import report
from routeiq.experiments.shadow import decide_beside
from routeiq.state.memory.counters import MemoryCounters
from routeiq.types import Decision, Ranked, RoutingRequest
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, STRONG
from tests.unit.experiments.helpers import asked, experiment, running

pytestmark = pytest.mark.anyio
VARIANTS = {"now": {}, "knn": {"strategy": "knn"}, "eco": {"profile": "eco"}}


def decided(strong: bool, cost_usd: float | None = 0.5) -> Decision:
    first = Ranked(
        deployment=STRONG if strong else CHEAP, score=0.7, utility=0.6, cost_usd=cost_usd
    )
    return Decision(id="d", requested="auto", strategy="s", reason="", ranking=(first,))


async def test_variants_decide_beside_and_are_recorded(clock: FakeClock) -> None:
    counters = MemoryCounters()
    experiments = running(clock, counters=counters, e=experiment(mode="shadow", variants=VARIANTS))
    asked_for: list[RoutingRequest] = []

    def decide(request: RoutingRequest) -> Decision:
        asked_for.append(request)
        return decided(strong=request.strategy == "knn", cost_usd=0.25)

    assert experiments.assign(asked()) is None
    wanted = experiments.shadows(asked())
    found = decide_beside(wanted, asked(), decided(strong=True), decide, experiments.tally)
    assert [(r.strategy, r.profile, r.variant) for r in asked_for] == [
        ("knn", None, "knn"),
        (None, "eco", "eco"),
    ]
    assert found[0] == {
        "experiment": "e",
        "variant": "knn",
        "model": "strong",
        "deployment": "strong",
        "strategy": "s",
        "score": 0.7,
        "cost_usd": 0.25,
        "agrees": True,
    }
    assert found[1]["agrees"] is False
    await experiments.flush()
    shown = report(experiments.definitions["e"], await counters.read(group("e")), clock.wall())
    assert shown["variants"]["knn"] == {
        "requests": 1,
        "errors": 0,
        "agreement": 1.0,
        "predicted_cost_usd": pytest.approx(0.25),
        "predicted_cost_usd_active": pytest.approx(0.5),
    }
    assert shown["variants"]["eco"]["agreement"] == 0.0
    assert "now" not in shown["variants"]


async def test_a_variant_that_cannot_decide_is_recorded_and_counted(clock: FakeClock) -> None:
    counters = MemoryCounters()
    experiments = running(clock, counters=counters, e=experiment(mode="shadow"))

    def decide(request: RoutingRequest) -> Decision:
        raise NoHealthyDeployment("nobody")

    wanted = experiments.shadows(asked())
    found = decide_beside(wanted, asked(), decided(strong=True), decide, experiments.tally)
    assert found == [{"experiment": "e", "variant": "candidate", "error": "nobody"}]
    await experiments.flush()
    fields = await counters.read(group("e"))
    assert dict(fields) == {"candidate:requests": 1, "candidate:errors": 1}


async def test_costs_are_only_compared_where_both_are_known(clock: FakeClock) -> None:
    counters = MemoryCounters()
    experiments = running(clock, counters=counters, e=experiment(mode="shadow"))
    for mine, active in ((0.5, None), (None, 0.5)):
        decide_beside(
            experiments.shadows(asked()),
            asked(),
            decided(True, active),
            lambda request, mine=mine: decided(True, mine),  # type: ignore[misc]
            experiments.tally,
        )
    await experiments.flush()
    assert "candidate:cost" not in await counters.read(group("e"))


def test_traffic_is_the_share_of_requests_that_are_decided_twice(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(mode="shadow", traffic=0.25))
    took = sum(bool(experiments.shadows(replace(asked(), id=f"r{i}"))) for i in range(2000))
    assert took == pytest.approx(500, abs=80)


def test_where_none_runs_nothing_is_done(clock: FakeClock) -> None:
    assert running(clock, e=experiment()).shadows(asked()) == []
