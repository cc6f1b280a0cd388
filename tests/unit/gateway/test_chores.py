from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.experiments import Experiment
from routeiq.config.settings import Settings
from routeiq.gateway.chores import Chores
from routeiq.stores import Lease
from tests.support.clock import FakeClock
from tests.support.worlds import MASTER, World, config_of

pytestmark = pytest.mark.anyio
LEASE = Lease(name="job", holder="worker", token=1, left_s=30.0)
AB = {
    "variants": {"same": {}, "new": {"profile": "eco"}},
    "guards": [{"metric": "error_rate", "margin": 0.01}],
}


class Ledger:
    """The decision ledger, as far as retention goes."""

    def __init__(self) -> None:
        self.before: list[float] = []

    async def prepare(self, now: float) -> None:
        """Nothing to make."""

    async def prune(self, before: float) -> int:
        self.before.append(before)
        return 1


def chores(world: World, experiments: dict[str, Any] | None = None) -> Chores:
    found = {name: Experiment.model_validate(one) for name, one in (experiments or {}).items()}
    return Chores(world.process, lambda: found)


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize("stored", [True, False])
async def test_who_has_what_to_do(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, testing: bool, stored: bool
) -> None:
    settings = Settings(master_key=MASTER, ab_testing_enabled=testing)
    world = World(monkeypatch, clock, config_of(settings=settings))
    if stored:
        world.state.decisions = Ledger()  # type: ignore[assignment]
    chores(world).assign()
    expected = {"expired"} | ({"experiment-guards"} if testing else set())
    assert set(world.process.jobs.status()) == expected | ({"retention"} if stored else set())


@pytest.mark.parametrize(("days", "audit"), [(30.0, None), (2.0, 7.0)])
async def test_old_rows_go_when_they_are_old_enough(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, days: float, audit: float | None
) -> None:
    section = {"decisions": {"retention_days": days, "audit_retention_days": audit}}
    world = World(monkeypatch, clock, config_of(section))
    ledger, pruned = Ledger(), []
    world.state.decisions = ledger  # type: ignore[assignment]

    async def prune(before: float) -> int:
        pruned.append(before)
        return 0

    monkeypatch.setattr(world.state.audit, "prune", prune)
    await chores(world).retention(LEASE)
    assert ledger.before == [clock.wall() - days * 86_400]
    assert pruned == ([] if audit is None else [clock.wall() - audit * 86_400])


async def test_without_a_ledger_there_is_nothing_to_delete(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    await chores(World(monkeypatch, clock)).retention(LEASE)


async def test_conversations_that_expired_are_deleted(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    await world.state.conversations.put({"a": "small-1"}, 10.0)
    clock.advance(11.0)
    await chores(world).expired(LEASE)
    assert await world.state.conversations.prune() == 0, "nothing was left to delete"


@pytest.mark.parametrize("bad", [True, False])
async def test_a_variant_that_is_worse_is_stopped_and_all_are_told(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, bad: bool
) -> None:
    world, told = World(monkeypatch, clock, config_of({"experiments": {"ab": AB}})), []

    async def announce(topic: str, payload: Any) -> None:
        told.append((topic, payload["name"]))

    monkeypatch.setattr(world.process, "announce", announce)
    fields = {
        f"{arm}:{name}": count
        for arm, errors in (("same", 10), ("new", 900 if bad else 10))
        for name, count in (("requests", 1_000), ("ended", 1_000), ("errors", errors))
    }
    await world.state.counters.apply("experiment:ab", "w", 1, fields)
    await chores(world, {"ab": AB}).guards(LEASE)
    body = (await world.state.documents.read("experiments")).body
    assert (body is not None) is bad
    assert told == ([("control", "experiments")] if bad else [])
