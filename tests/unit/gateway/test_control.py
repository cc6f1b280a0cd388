from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.gateway.control import Control
from routeiq.gateway.reload import Reloader
from routeiq.stores import Change, Document
from routeiq.types import JsonObject
from tests.support.clock import FakeClock
from tests.support.worlds import World, config_of

pytestmark = pytest.mark.anyio
AB = {"definitions": {"ab": {"variants": {"same": {}}, "models": ["*"]}}}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> World:
    world = World(monkeypatch, clock)
    world.process.gateway = world.gateway
    world.process.control = Control(world.process, lambda: world.gateway.runtime)
    return world


def control(world: World) -> Control:
    assert world.process.control is not None
    return world.process.control


async def write(world: World, name: str, body: JsonObject | None) -> None:
    await world.state.documents.write(name, body, Change(actor="a", action="b", target="c"))


async def settle(turns: int = 50) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


async def test_documents_are_applied_and_taken_back(world: World) -> None:
    for name, body in (("strategy", {"name": "cost-aware"}), ("breakers", {"small-1": "drain"})):
        await write(world, name, body)
    await write(world, "experiments", AB)
    await control(world).refresh()
    runtime = world.runtime
    assert runtime.router.strategy_name == "cost-aware"
    assert runtime.breakers.state("small-1") == "drained"
    assert list(runtime.experiments.definitions) == ["ab"]
    assert control(world).status() == {
        "generation": 3,
        "keys_generation": 0,
        "versions": {"strategy": 1, "breakers": 1, "experiments": 1},
        "problems": {},
    }
    for name in ("strategy", "breakers", "experiments"):
        await write(world, name, None)
    await control(world).refresh()
    assert runtime.router.strategy_name != "cost-aware"
    assert runtime.breakers.state("small-1") == "closed"
    assert not runtime.experiments.definitions


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("strategy", {"name": "of-a-later-version"}),
        ("strategy", {"nonsense": 1}),
        ("breakers", {"small-1": "sideways"}),
        ("breakers", {"small-1": {"deep": 1}}),
    ],
)
async def test_what_cannot_be_applied_is_said_once_and_keeps_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture, name: str, body: JsonObject
) -> None:
    await write(world, "strategy", {"name": "cost-aware"})
    await write(world, "breakers", {"small-1": "drain"})
    await control(world).refresh()
    await write(world, name, body)
    await write(world, "experiments", AB)
    await control(world).refresh()
    await write(world, "other", {})
    await control(world).refresh()
    assert list(control(world).problems) == [name]
    assert caplog.text.count("control state refused") == 1
    assert world.runtime.router.strategy_name == "cost-aware", "what was there stays"
    assert world.runtime.breakers.state("small-1") == "drained"
    assert "ab" in world.runtime.experiments.definitions, "the others are applied"
    await write(world, name, None)
    await control(world).refresh()
    assert control(world).problems == {}


async def test_a_strategy_of_somebody_else_may_fail_in_any_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("theirs")

    monkeypatch.setattr(world.runtime.router, "activate", broken)
    await write(world, "strategy", {"name": "cost-aware"})
    await write(world, "breakers", {"small-1": "drain"})
    await control(world).refresh()
    assert control(world).problems == {"strategy": "theirs"}
    assert world.runtime.breakers.state("small-1") == "drained"
    assert control(world).generation == 2, "it is not tried again each second"


async def test_what_was_read_late_does_not_undo_a_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has read the old documents and is slow; meanwhile a request changes and applies."""
    await write(world, "breakers", {"small-1": "drain"})
    read, slow, go = world.state.documents.all, [True], asyncio.Event()

    async def all_() -> tuple[int, Mapping[str, Document]]:
        found = await read()
        if slow.pop() if slow else False:
            await go.wait()
        return found

    monkeypatch.setattr(world.state.documents, "all", all_)
    first = asyncio.create_task(control(world).refresh())
    await settle()
    await write(world, "breakers", {"large-1": "drain"})
    second = asyncio.create_task(control(world).refresh())
    await settle()
    go.set()
    await asyncio.gather(first, second)
    assert world.runtime.breakers.state("small-1") == "closed"
    assert world.runtime.breakers.state("large-1") == "drained"
    assert control(world).generation == 2


async def test_a_change_during_a_reload_is_in_the_new_runtime(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(world, "strategy", {"name": "cost-aware"})
    await control(world).refresh()
    fresh = world.build(config_of())
    real, go = type(fresh).experiment, asyncio.Event()

    async def slow(self: Any, body: Any) -> None:
        if self is fresh and not go.is_set():
            await go.wait()  # the strategy of the new one has been activated by now
        await real(self, body)

    monkeypatch.setattr(type(fresh), "experiment", slow)
    preparing = asyncio.create_task(world.process.prepare(fresh))
    await until(lambda: fresh.router.strategy_name == "cost-aware")
    await settle()
    await write(world, "strategy", {"name": "largest"})
    await control(world).refresh()
    assert world.runtime.router.strategy_name == "largest"
    go.set()
    await preparing
    assert fresh.router.strategy_name == "largest"
    await fresh.close()


async def test_what_the_override_has_learned_outlives_a_reload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not in config.yaml, so it is made for the new runtime by the control state."""
    await write(world, "strategy", {"name": "linucb"})
    await control(world).refresh()
    taken: list[int] = []
    made = world.runtime.router._strategies.get("linucb")
    monkeypatch.setattr(type(made), "snapshot", lambda self: {"seen": 1})
    monkeypatch.setattr(type(made), "restore", lambda self, state: taken.append(state["seen"]))
    fresh = world.build(config_of())
    await world.process.prepare(fresh)
    assert taken == [1]
    await fresh.close()


async def test_the_loop_reports_what_is_applied_and_outlives_anything(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("routeiq.gateway.control.BLIND_S", 0.01)
    running = asyncio.create_task(control(world).run())

    async def report() -> list[int]:
        return [one.generation for one in await world.state.roster.all()]

    async with asyncio.timeout(10):
        while await report() != [0]:
            await asyncio.sleep(0.005)
        real = world.state.documents.all
        for error in (StoreUnavailable("gone"), KeyError("a defect")):

            async def fails(error: Exception = error) -> Any:
                raise error

            monkeypatch.setattr(world.state.documents, "all", fails)
            control(world).poke()
            await asyncio.sleep(0.05)
            assert not running.done()
        monkeypatch.setattr(world.state.documents, "all", real)
        await write(world, "strategy", {"name": "cost-aware"})
        while await report() != [1]:
            await asyncio.sleep(0.005)
    assert "control state cannot be applied" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_reload_is_reported_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routeiq.gateway.control.BLIND_S", 0.01)
    running = asyncio.create_task(control(world).run())

    async def digests() -> list[str]:
        return [one.config for one in await world.state.roster.all()]

    reloader = Reloader(
        world.gateway,
        build=lambda _: world.build(config_of(digest="new")),
        prepare=world.process.prepare,
        clock=world.clock,
    )
    monkeypatch.setattr(reloader, "_read", lambda: config_of(digest="new"))
    async with asyncio.timeout(10):
        while await digests() != [""]:
            await asyncio.sleep(0.005)
        await reloader.reload("test")
        while await digests() != ["new"]:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_keys_are_doubted_when_a_change_was_not_announced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    async def refresh(generation: int) -> None:
        seen.append(generation)

    async def generation() -> int:
        return 4

    monkeypatch.setattr(world.process.keys, "refresh", refresh)
    monkeypatch.setattr(world.state.directory, "generation", generation)
    await control(world).refresh()
    await control(world).refresh()
    assert seen == [4]
