from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from routeiq.gateway.watch import SCOPE_KEY, Disconnect


class Connection:
    """What a server's protocol offers, lost when a test says so."""

    on_disconnect: Callable[[], None] | None = None
    closed = False

    def gone(self) -> bool:
        return self.closed

    def lose(self) -> None:
        self.closed = True
        if self.on_disconnect is not None:
            self.on_disconnect()


async def work(disconnect: Disconnect) -> str:
    disconnect.watch()
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        if not disconnect.happened:
            raise
        disconnect.absorb()
        await asyncio.sleep(0)  # the task is whole again: waiting works
        return "stopped"
    return "done"


@pytest.mark.anyio
async def test_a_lost_connection_stops_the_work() -> None:
    connection = Connection()
    task = asyncio.create_task(work(Disconnect({SCOPE_KEY: connection})))
    await asyncio.sleep(0)
    connection.lose()
    assert await task == "stopped"
    assert task.cancelling() == 0


@pytest.mark.anyio
async def test_a_connection_that_was_lost_before_stops_it_too() -> None:
    connection = Connection()
    connection.closed = True
    assert await work(Disconnect({SCOPE_KEY: connection})) == "stopped"


@pytest.mark.anyio
async def test_a_cancellation_from_outside_is_not_ours() -> None:
    disconnect = Disconnect({SCOPE_KEY: Connection()})
    task = asyncio.create_task(work(disconnect))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not disconnect.happened


@pytest.mark.anyio
async def test_after_the_end_nothing_is_stopped() -> None:
    connection = Connection()
    disconnect = Disconnect({SCOPE_KEY: connection})
    disconnect.watch()
    disconnect.ended()
    disconnect.ended()
    connection.lose()
    await asyncio.sleep(0)
    assert not disconnect.happened
    assert connection.on_disconnect is None


@pytest.mark.anyio
async def test_a_server_that_tells_nothing_is_fine() -> None:
    disconnect = Disconnect({})
    disconnect.watch()
    disconnect.ended()
    assert not disconnect.happened
