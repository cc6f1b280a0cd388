from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routeiq.gateway.app import Gateway
from routeiq.gateway.runtime import Runtime
from tests.support.clock import FakeClock
from tests.support.worlds import World, config_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> World:
    return World(monkeypatch, clock)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Runtime]:
    found: list[Runtime] = []

    async def close(runtime: Runtime) -> None:
        found.append(runtime)
        for task in runtime.tasks:
            task.cancel()

    monkeypatch.setattr(Runtime, "close", close)
    return found


async def test_a_runtime_that_nobody_uses_is_closed_at_once(
    world: World, closed: list[Runtime]
) -> None:
    old, new = world.runtime, world.build(config_of())
    world.gateway.replace(new)
    await world.gateway.closed()
    assert closed == [old]
    assert world.runtime is new
    assert new.tasks, "the loops of the new one run"
    await new.close()


@pytest.mark.parametrize("how", ["answered", "failed", "cancelled"])
async def test_a_runtime_is_closed_once_when_its_last_request_ends(
    world: World, closed: list[Runtime], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    go, old = asyncio.Event(), world.runtime

    async def wait(*_: Any, **__: Any) -> Any:
        await go.wait()
        raise ZeroDivisionError("a defect")

    path = "GET /v1/models"
    table = world.gateway._generation.routes
    real = table._exact["/v1/models"]["GET"]

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        if how == "failed":
            raise ZeroDivisionError("a defect")
        await real(scope, receive, send)

    table._exact["/v1/models"]["GET"] = slow
    asking = [asyncio.create_task(world.ask(path)) for _ in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    for _ in range(2):  # replaced twice: only the first is in use
        world.gateway.replace(world.build(config_of()))
    await world.gateway.closed()
    assert old not in closed
    if how == "cancelled":
        for task in asking:
            task.cancel()
    go.set()
    done = await asyncio.gather(*asking, return_exceptions=True)
    await world.gateway.closed()
    assert closed.count(old) == 1
    if how != "cancelled":
        assert [one.status for one in done if not isinstance(one, BaseException)] == (
            [200] * 3 if how == "answered" else [500] * 3
        )
    await world.runtime.close()


async def test_what_the_new_configuration_says_holds_for_the_next_request(
    world: World, closed: list[Runtime]
) -> None:
    assert (await world.chat(text="x" * 2_000)).status == 200
    config = config_of(
        {"server": {"max_body_bytes": 2_000}, "strategy": "cost-aware"},
        groups=("small", "other"),
    )
    world.gateway.replace(world.build(config))
    assert (await world.chat(text="x" * 2_000)).status == 413
    assert (await world.chat("other")).status == 200
    assert (await world.chat("large")).status == 404
    names = {one["id"] for one in (await world.ask("GET /v1/models")).json()["data"]}
    assert {"small", "other"} <= names
    assert "large" not in names
    active = (await world.ask("GET /routeiq/v1/strategies")).json()["active"]
    assert active == "cost-aware"
    await world.runtime.close()


async def test_a_runtime_whose_routes_cannot_be_made_replaces_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, closed: list[Runtime]
) -> None:
    old = world.runtime

    def broken(_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("routeiq.gateway.app.admin_routes", broken)
    with pytest.raises(ZeroDivisionError):
        world.gateway.replace(world.build(config_of()))
    assert world.runtime is old
    assert closed == []
    assert (await world.chat()).status == 200


async def test_what_workers_keep_is_not_made_anew(world: World, closed: list[Runtime]) -> None:
    old = world.runtime
    world.gateway.replace(world.build(config_of()))
    new = world.runtime
    for name in ("process", "breakers", "load", "admission", "decisions", "clock"):
        assert getattr(new, name) is getattr(old, name), name
    assert new.router is not old.router
    assert new.authenticator is not old.authenticator
    assert isinstance(world.gateway, Gateway)
    await new.close()


async def test_probes_show_the_new_runtime(world: World, closed: list[Runtime]) -> None:
    world.gateway.health.started = True
    world.gateway.replace(world.build(config_of()))
    assert world.gateway.health.runtime is world.runtime
    assert (await world.ask("GET /_health/ready", key="")).json()["status"] == "ready"
    await world.runtime.close()
