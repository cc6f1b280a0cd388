"""The keep-alive connections to one origin."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from routeiq.exceptions import ConnectFailed
from routeiq.ports import Clock

from .http_connection import Connection

Connect = Callable[[float | None], Awaitable[Connection]]


class Pool:
    """At most `limit` connections. The one that was used last goes first, so that the others can expire.

    Whoever finds none waits in a fair queue. A slot is one open connection or one attempt to open one;
    it is passed on exactly once, also when a connection breaks or a waiter is cancelled.
    """

    def __init__(self, connect: Connect, *, limit: int, keepalive_s: float, clock: Clock) -> None:
        self.slots = 0
        self._connect = connect
        self._limit = limit
        self._keepalive_s = keepalive_s
        self._clock = clock
        self._idle: list[Connection] = []  # oldest first
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """An idle connection that should still be alive."""
        while self._idle:
            connection = self._idle.pop()
            if (
                self._clock.monotonic() - connection.idle_since < self._keepalive_s
                and not connection.transport.is_closing()
            ):
                return connection
            connection.abort()
        return None

    async def acquire(self, deadline: float | None, *, fresh: bool = False) -> Connection:
        """A connection, opened or waited for if need be; `fresh` takes none from the idle ones.

        The caller bounds it by `deadline` (loop time), which is divided among the addresses of a name.

        Raises:
            ConnectFailed: it cannot be opened, or the pool is closed.
        """
        if fresh and self._idle and self.slots >= self._limit:
            self._idle[0].abort()
        while fresh or (connection := self.take()) is None:
            if self.slots < self._limit or self._closed:
                self.slots += 1
                return await self._open(deadline)
            offered = await self._wait()
            if offered is None:
                return await self._open(deadline)
            if not offered.transport.is_closing():
                return offered
            offered.abort()
        return connection

    async def _open(self, deadline: float | None) -> Connection:
        try:
            if self._closed:
                raise ConnectFailed("the HTTP client is closed")
            connection = await self._connect(deadline)
            if connection.closed:
                raise ConnectFailed(f"{connection.origin}: closed as soon as it was connected")
        except BaseException:
            self._free_slot()
            raise
        connection.owner = self
        return connection

    async def _wait(self) -> Connection | None:
        """A connection that was given back, or None: a slot to open one with."""
        waiter: asyncio.Future[Connection | None]
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                self._waiters.remove(waiter)
            elif (connection := waiter.result()) is None:
                self._free_slot()
            elif not connection.closed:
                self.release(connection)
            raise

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        for waiter in self._waiters:
            if not waiter.done():
                return waiter
        return None

    def _free_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is None:
            self.slots -= 1
        else:
            self._waiters.remove(waiter)
            waiter.set_result(None)

    def release(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""
        if self._waiters and (waiter := self._next_waiter()) is not None:
            self._waiters.remove(waiter)
            waiter.set_result(connection)
        elif self._closed:
            connection.abort()
        else:
            connection.idle_since = self._clock.monotonic()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = connection.loop.call_later(self._keepalive_s, self._sweep)

    def discard(self, connection: Connection) -> None:
        """A connection is gone."""
        with suppress(ValueError):
            self._idle.remove(connection)
        self._free_slot()

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._clock.monotonic()
        while self._idle and now - self._idle[0].idle_since >= self._keepalive_s:
            self._idle[0].abort()
        if self._idle:
            wait = self._idle[0].idle_since + self._keepalive_s - now
            self._sweeper = self._idle[0].loop.call_later(wait, self._sweep)

    def close(self) -> None:
        """Cut the idle connections, refuse the waiters; those in use close at their end."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._idle[-1].abort()
        while (waiter := self._next_waiter()) is not None:
            self._waiters.remove(waiter)
            self.slots += 1
            waiter.set_result(None)
