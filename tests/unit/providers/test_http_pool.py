from __future__ import annotations

import asyncio

import pytest

from routeiq.exceptions import ConnectFailed
from routeiq.providers.http_connection import Connection
from routeiq.providers.http_pool import Pool
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


class OpenTransport(asyncio.Transport):
    closing = False

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Opener:
    """Opens fake connections; `broken` makes it fail, `gate` makes it wait."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def __call__(self, deadline: float | None) -> Connection:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise ConnectFailed("refused")
        connection = Connection(asyncio.get_running_loop(), "test:80")
        connection.connection_made(OpenTransport())
        self.opened.append(connection)
        return connection


def pool_of(opener: Opener, clock: FakeClock, *, limit: int = 1) -> Pool:
    return Pool(opener, limit=limit, keepalive_s=30.0, clock=clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_connection_used_last_is_reused_first(clock: FakeClock) -> None:
    pool = pool_of(Opener(), clock, limit=2)
    first, second = await pool.acquire(None), await pool.acquire(None)
    pool.release(first)
    pool.release(second)
    assert pool.take() is second
    assert pool.take() is first
    assert pool.take() is None


async def test_an_expired_connection_is_closed_instead_of_reused(clock: FakeClock) -> None:
    pool = pool_of(Opener(), clock)
    connection = await pool.acquire(None)
    pool.release(connection)
    clock.advance(30.0)
    assert pool.take() is None
    assert connection.closed
    assert pool.slots == 0
    pool.close()


async def test_waiters_are_served_in_order(clock: FakeClock) -> None:
    pool = pool_of(Opener(), clock)
    connection = await pool.acquire(None)
    served: list[int] = []

    async def want(number: int) -> None:
        mine = await pool.acquire(None)
        served.append(number)
        pool.release(mine)

    tasks = [asyncio.create_task(want(number)) for number in range(4)]
    await settle()
    assert served == []
    pool.release(connection)
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3]
    assert pool.slots == 1
    pool.close()


async def test_a_broken_connection_passes_its_slot_to_a_waiter(clock: FakeClock) -> None:
    opener = Opener()
    pool = pool_of(opener, clock)
    connection = await pool.acquire(None)
    waiter = asyncio.create_task(pool.acquire(None))
    await settle()
    connection.abort()
    assert await waiter is opener.opened[1]
    assert pool.slots == 1


@pytest.mark.parametrize("when", ["waiting", "served", "offered a slot"])
async def test_a_cancelled_waiter_leaks_no_slot(clock: FakeClock, when: str) -> None:
    pool = pool_of(Opener(), clock)
    connection = await pool.acquire(None)
    waiter = asyncio.create_task(pool.acquire(None))
    await settle()
    if when == "served":
        pool.release(connection)
    elif when == "offered a slot":
        connection.abort()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    if when == "waiting":
        pool.release(connection)
    again = await asyncio.wait_for(pool.acquire(None), 1)
    assert (again is connection) == (when != "offered a slot")
    assert pool.slots == 1


async def test_a_waiter_that_is_handed_a_dying_connection_opens_another(clock: FakeClock) -> None:
    opener = Opener()
    pool = pool_of(opener, clock)
    connection = await pool.acquire(None)
    waiter = asyncio.create_task(pool.acquire(None))
    await settle()
    pool.release(connection)
    connection.abort()
    assert await waiter is opener.opened[1]
    assert pool.slots == 1


async def test_failed_and_cancelled_attempts_free_their_slot(clock: FakeClock) -> None:
    opener = Opener()
    opener.broken = True
    pool = pool_of(opener, clock)
    with pytest.raises(ConnectFailed):
        await pool.acquire(None)
    opener.gate = asyncio.Event()
    attempt = asyncio.create_task(pool.acquire(None))
    await settle()
    assert pool.slots == 1
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert pool.slots == 0


async def test_fresh_makes_room_by_closing_the_oldest_idle_connection(clock: FakeClock) -> None:
    opener = Opener()
    pool = pool_of(opener, clock, limit=2)
    first, second = await pool.acquire(None), await pool.acquire(None)
    pool.release(first)
    pool.release(second)
    assert await pool.acquire(None, fresh=True) is opener.opened[2]
    assert first.closed
    assert not second.closed
    pool.close()


async def test_closing_cuts_idle_ones_refuses_waiters_and_closes_used_ones_at_their_end(
    clock: FakeClock,
) -> None:
    pool = pool_of(Opener(), clock, limit=2)
    idle, used = await pool.acquire(None), await pool.acquire(None)
    waiters = [asyncio.create_task(pool.acquire(None)) for _ in range(3)]
    await settle()
    pool.release(idle)
    mine = await waiters[0]
    pool.close()
    for waiter in waiters[1:]:
        with pytest.raises(ConnectFailed, match="closed"):
            await waiter
    with pytest.raises(ConnectFailed, match="closed"):
        await pool.acquire(None)
    assert not used.closed
    pool.release(used)
    pool.release(mine)
    assert used.closed
    assert mine.closed
    assert pool.slots == 0


async def test_sweeping_closes_the_expired_and_keeps_the_others(clock: FakeClock) -> None:
    pool = pool_of(Opener(), clock, limit=2)
    old, young = await pool.acquire(None), await pool.acquire(None)
    pool.release(old)
    clock.advance(20.0)
    pool.release(young)
    clock.advance(15.0)
    pool._sweep()
    assert (old.closed, young.closed, pool.slots) == (True, False, 1)
    clock.advance(15.0)
    pool._sweep()
    assert (young.closed, pool.slots) == (True, 0)
    pool.close()


async def test_a_connection_that_is_closed_at_once_was_never_made(clock: FakeClock) -> None:
    async def stillborn(deadline: float | None) -> Connection:
        connection = await Opener()(deadline)
        connection.abort()
        return connection

    pool = Pool(stillborn, limit=1, keepalive_s=30.0, clock=clock)
    with pytest.raises(ConnectFailed, match="closed as soon as"):
        await pool.acquire(None)
    assert pool.slots == 0
