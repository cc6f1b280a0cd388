from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from routeiq.gateway import body, worker
from routeiq.gateway.app import Gateway
from routeiq.gateway.server import Server, make_server
from tests.support.upstreams import Rig


def parts() -> tuple[Gateway, Server]:
    gateway = Gateway(Rig({}, {"one": ("only",)}).runtime)
    return gateway, make_server(gateway.app)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LINGER_S", 0.0)
    monkeypatch.setattr(worker, "PARENT_POLL_S", 0.0)


@pytest.mark.anyio
async def test_a_drain_with_nothing_under_way_ends_at_once() -> None:
    gateway, server = parts()
    left = await worker.drain(gateway, server, 30.0)
    assert gateway.runtime.admission.draining
    assert left == 30.0


@pytest.mark.anyio
async def test_a_drain_waits_for_the_last_request() -> None:
    gateway, server = parts()
    admission = gateway.runtime.admission
    assert admission.enter()
    drain = asyncio.ensure_future(worker.drain(gateway, server, 30.0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not drain.done()
    assert not admission.enter()
    admission.leave()
    await drain


@pytest.mark.anyio
async def test_a_drain_that_takes_too_long_cuts_what_is_left() -> None:
    gateway, server = parts()
    gateway.runtime.admission.enter()

    async def wait() -> None:
        await asyncio.Event().wait()

    stuck = asyncio.create_task(wait())
    server.server_state.tasks.add(stuck)
    left = await worker.drain(gateway, server, 0.01)
    assert left == worker.CUT_S
    with pytest.raises(asyncio.CancelledError):
        await stuck


@pytest.mark.anyio
async def test_connections_that_do_not_take_their_answer_are_cut() -> None:
    _, server = parts()
    gone = asyncio.Event()

    class Stuck:
        transport: Any

        def abort(self) -> None:
            gone.set()

    stuck = Stuck()
    stuck.transport = stuck
    server.server_state.connections.add(stuck)  # type: ignore[arg-type]

    async def serving() -> None:
        await gone.wait()

    await worker.ended(server, asyncio.ensure_future(serving()), 0.01)
    assert gone.is_set()


@pytest.mark.anyio
async def test_a_worker_stops_when_its_parent_changes() -> None:
    stop = asyncio.Event()
    await worker.watch_parent(os.getppid() + 1, stop)
    assert stop.is_set()


@pytest.mark.anyio
async def test_a_worker_with_its_parent_or_without_one_goes_on() -> None:
    stop = asyncio.Event()
    await worker.watch_parent(None, stop)
    watch = asyncio.ensure_future(worker.watch_parent(os.getppid(), stop))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stop.is_set()
    watch.cancel()


@pytest.mark.anyio
async def test_a_server_that_cannot_start_says_why() -> None:
    _, server = parts()

    async def broken() -> None:
        raise OSError("no such address")

    with pytest.raises(OSError, match="no such address"):
        await worker.started(server, asyncio.ensure_future(broken()))


@pytest.mark.anyio
async def test_a_body_that_stops_arriving_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_IDLE_S", 0.01)
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    with pytest.raises(Exception, match="stopped arriving"):
        await body.read_body(receive)
