"""One connection that many callers share: their commands leave in one write, the replies come back in order.

redis-py takes a connection per command and about 110 to 190 µs of CPU; that is more than a request may cost in
all. Here commands of one turn of the event loop are written together and hiredis parses what one read brought.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

Command = tuple[str | bytes | int | float, ...]
LATE_S = 0.02
"""A time-out that is noticed this much too late was ours: the event loop was busy; arrived replies go first."""
STUCK_S = 1.0
"""A connection on which a reply is this much overdue is cut; until then late replies are read and dropped."""
PENDING = 8192
"""Unanswered commands on one connection; more are refused, so that a dead server does not fill memory."""


class Wire(asyncio.Protocol):
    """A connection. `send` never blocks; a caller that is cancelled leaves its reply to be dropped.

    With `on_push` it is a subscriber's: messages go there and everything else answers `send` in order.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        *,
        on_push: Callable[[bytes], None] | None = None,
    ) -> None:
        self.closed = False
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_push = on_push
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep-alive finds peers that vanished while nothing was asked."""
        self._transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the one who has waited longest."""
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if self._on_push is not None and _pushed(reply):
                    self._on_push(reply[2])
                    continue
                future = waiting.popleft()[0]
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._end(ConnectionError(f"the reply is not Redis': {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everybody: whether their commands were carried out is unknown."""
        self._end(ConnectionError(f"connection lost: {exc}" if exc else "connection lost"))

    # Called by us.

    def send(self, command: Command) -> asyncio.Future[Any]:
        """The reply; an error reply is a `hiredis.ReplyError` as result.

        The future fails with `TimeoutError` or `ConnectionError`.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            future.set_exception(ConnectionError("connection closed"))
            return future
        if len(self._waiting) >= PENDING:
            future.set_exception(TimeoutError(f"{PENDING} commands wait for replies"))
            return future
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type] # its stub says one item
        self._waiting.append((future, self._loop.time() + self._timeout_s))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._overdue, False)
        return future

    def abort(self, why: str = "connection given up") -> None:
        """Cut it at once. Harmless when it is closed."""
        self._end(ConnectionError(why))

    def _flush(self) -> None:
        unsent = self._unsent
        if self._transport is not None and unsent and not self.closed:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
        unsent.clear()

    def _overdue(self, again: bool) -> None:
        """One timer per connection, re-armed lazily: what is not answered in time fails."""
        self._timer = None
        if not self._waiting:
            return
        now = self._loop.time()
        first = self._waiting[0][1]
        if not again and now - first > LATE_S:
            self._timer = self._loop.call_later(LATE_S, self._overdue, True)
            return
        if now - first > STUCK_S:
            self._end(ConnectionError("no reply on this connection"))
            return
        due = now + self._timeout_s
        for future, deadline in self._waiting:
            if deadline > now:
                due = deadline
                break
            if not future.done():
                future.set_exception(TimeoutError(f"no answer within {self._timeout_s:g} s"))
        pause = max(due - now, self._timeout_s / 8)
        self._timer = self._loop.call_later(pause, self._overdue, first <= now)

    def _end(self, error: ConnectionError) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._unsent.clear()
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(error)
        if not self.lost.done():
            self.lost.set_result(None)


def _pushed(reply: Any) -> bool:
    return isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message"
