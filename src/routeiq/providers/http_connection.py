"""One HTTP/1.1 connection and the response that is on it.

An `asyncio.Protocol` feeds httptools (llhttp) and wakes the one coroutine that waits, once per arrival.
Time limits cost one lazily re-armed timer per connection, not one per wait. Framing is RFC 9112.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from routeiq.exceptions import ConnectionLost, UpstreamError, UpstreamTimeout
from routeiq.ports import Header, Timeouts

IDLE, HEAD, BODY, DONE, FAILED = range(5)
HIGH_WATER = 256 * 1024  # unread bytes at which the socket is no longer read
OVERHEAD_LIMIT = 64 * 1024  # bytes of head, chunk extensions or trailers without a byte of body
HEADER_LIMIT = 256


class Owner(Protocol):
    """Whoever gets the connection back: the pool."""

    def release(self, connection: Connection) -> None:
        """The connection can carry another request."""
        ...

    def discard(self, connection: Connection) -> None:
        """The connection is gone; called once."""
        ...


class Connection(asyncio.Protocol):
    """One socket. It carries one exchange at a time: IDLE, HEAD, BODY, then DONE or FAILED."""

    owner: Owner | None = None
    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: str) -> None:
        self.loop = loop
        self.origin = origin
        self.state = IDLE
        self.status = 0
        self.headers: list[Header] = []
        self.error: UpstreamError = ConnectionLost(f"{origin}: given up")
        self.closed = False
        self.used = False
        self.stale = False
        self.idle_since = 0.0
        self._parser: Any = HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self.parts: list[bytes] = []
        self._unread = 0
        self._high: float = HIGH_WATER
        self._whole = self._paused = self._no_body = self._keep = False
        self._overhead = 0
        self._timeouts = Timeouts()
        self._timer: asyncio.TimerHandle | None = None
        self._tick = self._begun = self._written = self._seen = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = transport  # type: ignore[assignment]

    # The exchange, called by the client.

    def exchange(
        self, request: bytes, timeouts: Timeouts, begun: float, *, no_body: bool = False
    ) -> asyncio.Future[None]:
        """Write `request`; the future ends when the head has arrived or `state` is FAILED.

        `begun` (loop time) is when `total_s` started; `no_body` says that none follows a head.
        """
        self.state = HEAD
        self.headers = []
        self._overhead = self._unread = 0
        self._high = HIGH_WATER
        self._whole = False
        self._no_body = no_body
        self._begun = begun
        self._written = self.loop.time()
        # A timer that was set for the same limits fires before any of them can expire.
        if timeouts is not self._timeouts or self._timer is None:
            self._arm(timeouts)
        self.transport.write(request)
        self._waiter = waiter = self.loop.create_future()
        return waiter

    def wait(self) -> asyncio.Future[None]:
        """A future for the next change that the reader wants to see."""
        self._waiter = waiter = self.loop.create_future()
        return waiter

    def collect(self, limit: int | None) -> None:
        """From now on wake the reader only at the end; fail when more than `limit` bytes came."""
        self._whole = True
        self._high = float("inf") if limit is None else limit
        self._resume()
        self._check_size()

    def take(self) -> bytes:
        """All body bytes that have arrived and were not taken; may be empty."""
        parts = self.parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread = 0
        if self._paused:
            self._resume()
        return data

    def finish(self) -> None:
        """The response is not wanted any more: reuse the connection if it is clean, else cut it."""
        if (
            self.state == DONE
            and self._keep
            and self.owner is not None
            and not self.transport.get_write_buffer_size()
        ):
            self.state = IDLE
            self.used = True
            if self.parts:
                self.parts.clear()
            if self._paused:
                self._resume()
            self.owner.release(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection at once. Harmless when it is closed."""
        if self.state in (HEAD, BODY):
            self.state = FAILED
        if not self.closed:
            self.transport.abort()
            self._dispose()

    def _fail(self, error: UpstreamError) -> None:
        self.state = FAILED
        self.error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._seen = self.loop.time()
            if not self.closed and not self.transport.is_closing():
                self.transport.resume_reading()

    def _dispose(self) -> None:
        self.closed = True
        self._parser = None  # it holds our bound methods: without the cycle no collector is needed
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.owner is not None:
            self.owner.discard(self)

    # Time limits.

    def _arm(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        limits = (timeouts.first_byte_s, timeouts.idle_s, timeouts.total_s)
        self._tick = min((limit for limit in limits if limit is not None), default=0.0)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._tick, self._check_time) if self._tick else None

    def _check_time(self) -> None:
        self._timer = None
        if self.state not in (HEAD, BODY):
            return
        limits, now = self._timeouts, self.loop.time()
        phase, limit, since = "first_byte", limits.first_byte_s, self._written
        if self.state == BODY:
            phase, since = "idle", self._seen
            limit = None if self._paused else limits.idle_s  # silence that we asked for
        when = since + limit if limit is not None else float("inf")
        if limits.total_s is not None and self._begun + limits.total_s < when:
            phase, limit, when = "total", limits.total_s, self._begun + limits.total_s
        if when <= now + 0.001:  # the resolution of uvloop's timers
            message = f"{self.origin}: {phase} timeout of {limit:g} s"
            self._fail(UpstreamTimeout(message, phase=phase))
        else:
            self._timer = self.loop.call_at(min(when, now + self._tick), self._check_time)

    # What the socket and the parser report.

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if not HEAD <= self.state <= BODY:  # bytes that nobody asked for
            self._keep = False
            if self.state == IDLE:
                self.abort()
            return
        self._seen = self.loop.time()
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._keep = False
            if self.state < DONE:
                reason = error.__context__ or error
                self._fail(ConnectionLost(f"{self.origin}: the answer is not HTTP/1.1: {reason}"))
        if self._overhead > OVERHEAD_LIMIT or self._unread > self._high:
            self._check_size()
        waiter, state = self._waiter, self.state
        if waiter is not None and state != HEAD and (state != BODY or not self._whole):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _check_size(self) -> None:
        if not HEAD <= self.state <= BODY:
            return
        if self._overhead > OVERHEAD_LIMIT:
            self._fail(ConnectionLost(f"{self.origin}: head, chunk sizes or trailers are too long"))
        elif self._unread > self._high:
            if self._whole:
                self._fail(ConnectionLost(f"{self.origin}: body is longer than {self._high} bytes"))
            elif not self._paused:
                self._paused = True
                self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self.state == HEAD:
            self.stale = self.used and not self._overhead
            self.error = ConnectionLost(f"{self.origin}: closed before the head of its answer")
            self.state = FAILED
        elif self.state == BODY:
            self.error = ConnectionLost(f"{self.origin}: closed inside the body of its answer")
            self.state = DONE if exc is None and self._ends_with_connection() else FAILED
        self._keep = False
        if not self.closed:
            self._dispose()
        self._wake()

    def _ends_with_connection(self) -> bool:
        """Whether the body is framed by the end of the connection (RFC 9112, 6.3)."""
        for name, value in self.headers:
            if name == b"content-length":
                return False
            if name == b"transfer-encoding" and value.lower().rstrip().endswith(b"chunked"):
                return False
        return True

    def on_message_begin(self) -> None:
        """Called by httptools."""
        if self.state == DONE:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools, also for trailers: those are dropped."""
        if self.state == HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by httptools, also for 1xx: those are skipped."""
        if self.state != HEAD:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
            return
        self.status = status
        self.state = BODY
        size = 0
        if self._overhead > OVERHEAD_LIMIT:  # the head and what came with it
            size = sum(len(name) + len(value) for name, value in self.headers)
        if size > OVERHEAD_LIMIT or len(self.headers) > HEADER_LIMIT or status < 100:
            raise ValueError("head out of bounds")  # arrives in data_received as a parser error
        if self._no_body:
            self.on_message_complete()
            self._parser = HttpResponseParser(self)  # the old one waits for a body

    def on_body(self, data: bytes) -> None:
        """Called by httptools."""
        if self.state == BODY:
            self.parts.append(data)
            self._unread += len(data)
            self._overhead = 0
        else:
            self._keep = False

    def on_message_complete(self) -> None:
        """Called by httptools."""
        if self.state == BODY:
            self.state = DONE
            self._keep = self._parser.should_keep_alive()


class Response:
    """An answer whose head has arrived; header names are in lower case. See `ports.UpstreamResponse`.

    It is its own iterator. Dropped without `close`, it cuts its connection when it is collected.
    """

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._connection: Connection | None = connection

    async def read(self, limit: int | None = None) -> bytes:
        """The rest of the body; `ConnectionLost` if it is cut or longer than `limit` bytes."""
        connection = self._connection
        if connection is None:
            return b""
        if connection.state == BODY:
            connection.collect(limit)
            while connection.state == BODY:
                await connection.wait()
        data = connection.take()
        self.close()
        if connection.state == FAILED:
            raise connection.error
        if limit is not None and len(data) > limit:
            raise ConnectionLost(f"{connection.origin}: body is longer than {limit} bytes")
        return data

    @property
    def complete(self) -> bool:
        """Whether all of the body has arrived and been taken."""
        return self._connection is None

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives: all there is, one piece per wake-up. Safe to abandon."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        while not connection.parts and connection.state == BODY:
            await connection.wait()
        data = connection.take()
        if connection.state == BODY or (data and connection.state == FAILED):
            return data
        self.close()
        if data:
            return data
        if connection.state == FAILED:
            raise connection.error
        raise StopAsyncIteration

    def close(self) -> None:
        """Give the connection back if the response is complete, else cut it. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and not connection.loop.is_closed():
            # The collector may run in any thread.
            connection.loop.call_soon_threadsafe(connection.finish)
