from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from routeiq.config.settings import Settings
from routeiq.exceptions import StoreUnavailable
from routeiq.gateway import background
from routeiq.gateway import process as module
from routeiq.gateway.background import kept
from routeiq.gateway.process import worker_name
from routeiq.gateway.reload import Reloader
from routeiq.routing.affinity import conversation_key
from routeiq.stores import Change
from tests.support.clock import FakeClock
from tests.support.worlds import MASTER, World, config_of

pytestmark = pytest.mark.anyio


async def settle(turns: int = 50) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def started(world: World) -> AsyncIterator[World]:
    process = world.process
    reloader = Reloader(
        world.gateway, build=world.build, prepare=process.prepare, clock=world.clock
    )
    await process.start(world.gateway, reloader)
    world.runtime.start()
    try:
        yield world
    finally:
        await process.halt()
        await world.gateway.closed()
        await world.runtime.close()
        await process.close()


async def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("down")


async def hang(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


def change(action: str = "test") -> Change:
    return Change(actor="ops", action=action, target="x")


def test_no_two_workers_have_one_name() -> None:
    names = {worker_name() for _ in range(100)}
    assert len(names) == 100


async def test_each_runtime_counts_its_own_batches(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """Batches are numbered from one by each: under one name the second's would be taken for the first's."""
    routeiq = {"experiments": {"ab": {"variants": {"same": {}}, "models": ["*"]}}}
    world = World(monkeypatch, clock, config_of(routeiq))
    await world.chat()
    await world.runtime.experiments.flush()
    world.gateway.replace(world.build(config_of(routeiq)))
    await world.chat()
    await world.runtime.experiments.flush()
    found = await world.state.counters.read("experiment:ab")
    assert found["same:requests"] == 2
    await world.gateway.closed()
    await world.runtime.close()


async def test_control_state_is_there_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    await world.state.documents.write("strategy", {"name": "cost-aware"}, change())
    await world.state.documents.write("breakers", {"small-1": "drain"}, change())
    async with started(world):
        assert world.runtime.router.strategy_name == "cost-aware"
        assert world.runtime.breakers.state("small-1") == "drained"
        await until(lambda: world.process.hearing)


@pytest.mark.parametrize("broken", [down, hang])
async def test_a_dead_store_does_not_keep_the_worker_from_starting(
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    broken: Any,
) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK_S", 0.05)
    world = World(monkeypatch, clock)
    with monkeypatch.context() as outage:
        outage.setattr(world.state.documents, "all", broken)
        async with asyncio.timeout(5):
            async with started(world):
                assert (await world.chat()).status == 200
                assert "without control state" in caplog.text


async def test_what_is_stored_does_not_keep_workers_from_starting(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def rubbish(*_: Any) -> Any:
        raise KeyError("no such column")

    world = World(monkeypatch, clock)
    monkeypatch.setattr(world.state.documents, "all", rubbish)
    async with started(world):
        assert (await world.chat()).status == 200
    assert "starting without control state" in caplog.text


async def test_a_change_is_applied_before_its_caller_is_answered(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    async with started(world):
        written = await world.ask("PUT /routeiq/v1/strategies/active", {"name": "cost-aware"})
        assert (written.status, written.json()["active"]) == (200, "cost-aware")
        assert world.runtime.router.strategy_name == "cost-aware"


async def test_a_change_of_another_worker_is_heard(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    here = World(monkeypatch, clock, worker="here")
    there = World(monkeypatch, clock, state=here.state, worker="there")
    async with started(here), started(there):
        await until(lambda: here.process.hearing and there.process.hearing)
        await here.ask("PUT /routeiq/v1/breakers/small-1", {"override": "drain"})
        await until(lambda: there.runtime.breakers.state("small-1") == "drained")
        report = (await here.ask("GET /routeiq/v1/workers")).json()
        assert {one["id"] for one in report["data"]} <= {"here", "there"}


async def test_an_event_that_nobody_understands_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, clock)
    async with started(world):
        await until(lambda: world.process.hearing)
        for topic, payload in (
            ("keys", {"kind": "key", "id": 7, "generation": {}}),
            ("keys", {"kind": ["key"]}),
            ("breakers", {"id": 7}),
            ("breakers", {"id": "small-1", "state": "open", "left_s": "soon"}),
            ("reload", {"digest": ""}),
            ("of a later version", {}),
        ):
            await world.state.events.publish(topic, payload)
        await world.state.documents.write("breakers", {"small-1": "drain"}, change())
        await until(lambda: world.runtime.breakers.state("small-1") == "drained")


async def test_a_defect_in_following_an_event_is_logged_and_no_more(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, clock)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(world.process.keys, "forget", broken)
    await world.process._on_event("keys", {"kind": "key", "id": "a"})
    assert "an event could not be followed up" in caplog.text


async def test_a_gap_outdates_what_was_remembered(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    forgotten: list[str] = []
    monkeypatch.setattr(world.process.keys, "forget_all", lambda: forgotten.append("all"))
    await world.process._on_gap()
    assert forgotten == ["all"]
    assert world.process.hearing


async def test_a_loop_that_fails_begins_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "ANEW_S", 0.0)
    runs: list[int] = []

    async def loop() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise KeyError("a defect")

    await kept(loop)
    assert len(runs) == 3
    assert caplog.text.count("begins anew") == 2
    task = asyncio.create_task(kept(hang))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_every_loop_of_a_worker_begins_anew(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(background, "ANEW_S", 0.0)
    world = World(monkeypatch, clock)
    process, tries = world.process, {"limits": 0, "jobs": 0, "events": 0}
    for name, owner, method in (
        ("limits", process.limiter, "run"),
        ("jobs", process.jobs, "run"),
        ("events", world.state.events, "listen"),
    ):
        real = getattr(owner, method)

        def broken(*args: Any, name: str = name, real: Any = real) -> Any:
            tries[name] += 1
            if tries[name] == 1:
                raise RuntimeError(name)
            return real(*args)

        monkeypatch.setattr(owner, method, broken)
    async with started(world):
        await until(lambda: min(tries.values()) >= 2)


async def test_an_announcement_that_cannot_be_made_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ANNOUNCE_S", 0.05)
    world = World(monkeypatch, clock)
    async with started(world):
        for broken in (down, hang):
            monkeypatch.setattr(world.state.events, "publish", broken)
            await world.process.control_changed("strategy", 1)
            assert "change not announced" in caplog.text
            caplog.clear()


async def test_a_change_that_was_written_is_answered_as_written(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Though nothing of it can be applied now."""
    world = World(monkeypatch, clock)
    async with started(world):
        for error in (StoreUnavailable("gone"), KeyError("a defect")):

            async def fails(error: Exception = error) -> None:
                raise error

            assert world.process.control is not None
            monkeypatch.setattr(world.process.control, "refresh", fails)
            answer = await world.ask("PUT /routeiq/v1/breakers/small-1", {"override": "drain"})
            assert answer.status == 200


async def test_at_the_end_everything_is_written(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    key = {"key": "application-key-secret", "budgets": [{"usd": 0.0004, "alert_at": [0.01]}]}
    routeiq = {
        "access": {"keys": {"app": key}},
        "experiments": {"ab": {"variants": {"same": {}}, "models": ["*"]}},
    }
    world = World(monkeypatch, clock, config_of(routeiq))
    left: list[str] = []
    async with started(world):
        await until(lambda: world.process.control and world.process.control.workers >= 0)
        leave, add = world.state.roster.leave, world.state.audit.add

        async def slow(change: Change) -> None:
            await asyncio.sleep(0.05)
            await add(change)

        monkeypatch.setattr(world.state.audit, "add", slow)

        async def note(id: str) -> None:
            left.append(id)
            await leave(id)

        monkeypatch.setattr(world.state.roster, "leave", note)
        answer = await world.chat(key=key["key"], headers={"x-routeiq-session-id": "s"})
        assert answer.status == 200
    assert left == ["worker"]
    assert (await world.state.counters.read("experiment:ab"))["same:requests"] == 1
    rows = await world.state.audit.latest(limit=10)
    assert [row["action"] for row in rows] == ["budgets.alert"], "the alert came while closing"
    where = await world.state.conversations.get(conversation_key("key:config:app", "s", "small"))
    assert where == "small-1"


async def test_the_end_is_bounded_though_every_store_hangs(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.05)
    monkeypatch.setattr("routeiq.gateway.runtime.FLUSH_S", 0.05)
    monkeypatch.setattr("routeiq.gateway.jobs.RELEASE_S", 0.05)
    routeiq = {"experiments": {"ab": {"variants": {"same": {}}, "models": ["*"]}}}
    world = World(monkeypatch, clock, config_of(routeiq))
    async with asyncio.timeout(10):
        async with started(world):
            await world.chat(headers={"x-routeiq-session-id": "s"})
            for store, method in (
                (world.state.counters, "apply"),
                (world.state.conversations, "put"),
                (world.state.leases, "release"),
                (world.state.roster, "leave"),
            ):
                monkeypatch.setattr(store, method, hang)
    assert "the store hangs" in caplog.text
    assert "ending before everything was flushed" in caplog.text


async def test_a_flush_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, clock)

    async def fails() -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(world.process.limiter, "close", fails)
    await world.process.close()
    assert "not everything was flushed" in caplog.text


async def test_audit_rows_that_are_lost_are_in_the_log(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(monkeypatch, clock)
    monkeypatch.setattr(world.state.audit, "add", down)
    with caplog.at_level(logging.ERROR):
        await world.process.audit(change("config.reload"))
    assert "audit row lost" in caplog.text


async def test_the_status_says_what_the_worker_knows_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    settings = Settings(
        master_key=MASTER,
        database_url="postgresql://ann:db-secret@db.internal/riq",
        redis_url="redis://:redis-secret@redis.internal",
        key_secret="pepper-secret-of-some-length",
        admin_keys=("sk-admin-secret",),
    )
    routeiq = {"access": {"keys": {"app": {"key": "application-key-secret"}}}}
    world = World(monkeypatch, clock, config_of(routeiq, settings=settings))
    async with started(world):
        status = await world.ask("GET /routeiq/v1/status")
        assert status.status == 200
        found = status.json()
        assert found["worker"] == "worker"
        assert found["control"]["problems"] == {}
        assert found["reload"]["reloads"] == 0
        for path in ("status", "config", "workers", "audit", "breakers", "strategies", "keys"):
            answer = await world.ask(f"GET /routeiq/v1/{path}")
            assert answer.status == 200, path
            assert b"secret" not in answer.body.replace(b"key_secret", b""), path
            assert b"internal" not in answer.body, path
        ready = await world.ask("GET /_health/ready", key="nobody")
        assert b"internal" not in ready.body


@pytest.mark.parametrize(("workers", "seen", "known"), [(None, 0, 1), (4, 2, 4), (2, 8, 8)])
async def test_how_many_share_the_limits(
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    workers: int | None,
    seen: int,
    known: int,
) -> None:
    world = World(monkeypatch, clock, config_of(settings=Settings(workers=workers)))
    async with started(world):
        assert world.process.control is not None
        await settle()
        world.process.control.workers = seen
        assert world.process.workers() == known
