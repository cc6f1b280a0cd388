from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from routeiq.config.experiments import Experiment
from routeiq.exceptions import Conflict
from routeiq.experiments.definitions import DOCUMENT, Definition, merge
from routeiq.experiments.exposure import group
from routeiq.experiments.guards import evaluate, watch_guards, with_stops
from routeiq.state.memory.audit import MemoryAudit
from routeiq.state.memory.counters import MemoryCounters
from routeiq.state.memory.documents import MemoryDocuments
from routeiq.stores import Change, Document
from routeiq.types import JsonObject
from tests.support.clock import FakeClock
from tests.unit.experiments.helpers import AB, at, experiment

pytestmark = pytest.mark.anyio
ERRORS = {"metric": "error_rate", "margin": 0.02}
BAD = {
    "control:ended": 2000,
    "control:errors": 20,
    "candidate:ended": 2000,
    "candidate:errors": 200,
}
CHANGE = Change(actor="a", action="b", target="c")


def guarded(**more: Any) -> Experiment:
    return experiment(**{"guards": [ERRORS], **more})


def defined(one: Experiment, **document: Any) -> Definition:
    return merge({"e": one}, document)[0]["e"]


def sums(metric: str, arm: float, control: float, n: int = 5000) -> dict[str, int]:
    """Counters of a metric of which half of the values are 10 % below the mean, half above."""
    found: dict[str, int] = {}
    for label, mean in (("candidate", arm), ("control", control)):
        values = [round(mean * 0.9), round(mean * 1.1)]
        found |= {
            f"{label}:{metric}_n": n,
            f"{label}:{metric}": sum(values) * n // 2,
            f"{label}:{metric}_sq": sum(v * v for v in values) * n // 2,
        }
    return found


def test_a_variant_that_is_surely_worse_is_stopped_and_why_is_said(clock: FakeClock) -> None:
    found = evaluate(defined(guarded()), BAD, clock.wall())
    assert set(found) == {"candidate"}
    assert found["candidate"]["at"] == clock.wall()
    assert "error_rate is worse than control's by 0.0" in found["candidate"]["why"]


@pytest.mark.parametrize(
    ("metric", "counted", "worse", "better"),
    [
        ("cost_usd", "cost", 2e6, 1e6),
        ("latency_ms", "latency", 2e6, 1e6),
        ("quality", "quality", 5e5, 8e5),
    ],
)
def test_worse_is_more_but_of_quality_less(
    clock: FakeClock, metric: str, counted: str, worse: float, better: float
) -> None:
    definition = defined(guarded(guards=[{"metric": metric}]))
    assert evaluate(definition, sums(counted, worse, better), clock.wall())
    assert not evaluate(definition, sums(counted, better, worse), clock.wall())
    assert not evaluate(definition, sums(counted, worse, worse), clock.wall())


def test_within_the_margin_nothing_is_stopped(clock: FakeClock) -> None:
    assert not evaluate(defined(guarded(guards=[{**ERRORS, "margin": 0.2}])), BAD, clock.wall())


def test_few_requests_prove_nothing(clock: FakeClock) -> None:
    few = {field: n // 100 for field, n in BAD.items()}
    assert not evaluate(defined(guarded()), few, clock.wall())
    assert not evaluate(defined(guarded()), {}, clock.wall())


@pytest.mark.parametrize(
    "more",
    [
        {"enabled": False},
        {"start": at(4e9)},
        {"end": at(1)},
        {"guards": []},
        {"variants": {"control": {}, "other": {"strategy": "knn"}}},
    ],
)
def test_what_does_not_run_is_not_stopped(clock: FakeClock, more: dict[str, Any]) -> None:
    assert not evaluate(defined(guarded(**more)), BAD, clock.wall())


def test_what_is_stopped_is_not_stopped_again(clock: FakeClock) -> None:
    stopped = defined(guarded(), stopped={"e": {"candidate": {"at": 1.0, "why": "before"}}})
    assert not evaluate(stopped, BAD, clock.wall())


def test_the_control_is_never_stopped(clock: FakeClock) -> None:
    fields = {**BAD, "control:errors": 1000, "candidate:errors": 0}
    assert not evaluate(defined(guarded()), fields, clock.wall())


def test_what_was_stopped_before_keeps_its_reason() -> None:
    body = {"definitions": {"x": 1}, "stopped": {"e": {"b": {"why": "old"}}, "f": {"c": {}}}}
    after = with_stops(body, {"e": {"b": {"why": "new"}, "d": {"why": "new"}}})
    assert after["stopped"] == {"e": {"b": {"why": "old"}, "d": {"why": "new"}}, "f": {"c": {}}}
    assert after["definitions"] == {"x": 1}


class Raced(MemoryDocuments):
    """Somebody else writes between our read and our write, so many times."""

    races = 0

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        if self.races:
            self.races -= 1
            before = await self.read(name)
            await super().write(name, {**(before.body or {}), f"x{self.races}": 1}, CHANGE)
        return await super().write(name, body, change, expected=expected)


@pytest.fixture
def documents(clock: FakeClock) -> Raced:
    return Raced(clock, MemoryAudit(clock))


async def counted(fields: Mapping[str, int] = BAD) -> MemoryCounters:
    counters = MemoryCounters()
    await counters.apply(group("e"), "w", 1, fields)
    return counters


async def watch(clock: FakeClock, documents: Raced, counters: MemoryCounters) -> Any:
    return await watch_guards(
        documents=documents,
        counters=counters,
        declared=lambda: {"e": guarded(variants=AB), "f": experiment()},
        clock=clock,
    )


async def test_a_look_writes_what_it_stops_once(clock: FakeClock, documents: Raced) -> None:
    counters = await counted()
    assert set((await watch(clock, documents, counters))["e"]) == {"candidate"}
    written = await documents.read(DOCUMENT)
    assert (written.version, written.updated_by) == (1, "guard")
    assert await watch(clock, documents, counters) == {}
    assert (await documents.read(DOCUMENT)).version == 1


async def test_nothing_to_stop_is_nothing_to_write(clock: FakeClock, documents: Raced) -> None:
    assert await watch(clock, documents, MemoryCounters()) == {}
    assert (await documents.read(DOCUMENT)).version == 0


async def test_what_others_wrote_meanwhile_is_kept(clock: FakeClock, documents: Raced) -> None:
    documents.races = 2
    assert await watch(clock, documents, await counted())
    body = (await documents.read(DOCUMENT)).body
    assert body is not None
    assert set(body) == {"x0", "x1", "stopped"}


async def test_it_gives_up_where_others_write_all_the_time(
    clock: FakeClock, documents: Raced
) -> None:
    documents.races = 99
    with pytest.raises(Conflict):
        await watch(clock, documents, await counted())
