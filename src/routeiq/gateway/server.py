"""uvicorn's server and HTTP/1.1 protocol, with three things of ours: lean responses, disconnects, errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from routeiq.gateway.asgi import Message
from routeiq.gateway.watch import SCOPE_KEY

# Longer than the idle limit of usual load balancers (60 s), so that they close first, not we under a request.
KEEPALIVE_S = 75
# For a request's head to arrive, from the connection or its first byte on.
HEAD_S = 30.0
# How long the rest of a request's body is read and thrown away after an early answer (413, draining).
DISCARD_S = 5.0
# Of a request's head, beyond the first piece that was read; nobody has been authenticated by then.
MAX_HEAD_BYTES = 64 * 1024


class LeanCycle(RequestResponseCycle):
    """Writes a response's head in one piece with its first bytes, and checks no header again.

    uvicorn searches every header's name and value for forbidden characters: 18 microseconds for our
    sixteen. They cannot be there: ours are made by `headers.safe`, a provider's came through a parser.
    """

    _head: bytes = b""

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """The ASGI `send`."""
        if self.response_complete or self.scope["method"] == "HEAD":
            await super().send(message)  # type: ignore[arg-type]
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message)
            return
        last = not message.get("more_body", False)
        data = self._head + self._framed(message.get("body", b""), last)
        self._head = b""
        self.transport.write(data)
        if last:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self._close()
            self.on_response()

    def _close(self) -> None:
        """Close, but not under a client that is still sending: the reset would destroy our answer."""
        if self.more_body:  # discarded by uvicorn, while the client finds out
            asyncio.get_running_loop().call_later(DISCARD_S, self.transport.abort)
        else:
            self.transport.close()

    def _framed(self, body: bytes, last: bool) -> bytes:
        """A piece of the body as it goes over the wire."""
        if self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return data + b"0\r\n\r\n" if last else data
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (last and self.expected_content_length):
            raise RuntimeError("the response's length is not its Content-Length")
        return body

    def _start(self, message: Message) -> None:
        status: int = message["status"]
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status][:-2]]
        add, pair = lines.append, b": ".join
        self.chunked_encoding = status not in (204, 304)
        for header in (*self.default_headers, *message["headers"]):
            if header[0] == b"content-length":
                self.expected_content_length = int(header[1])
                self.chunked_encoding = False
            elif header[0] == b"connection":
                self.keep_alive = False
                continue
            add(pair(header))
        if self.chunked_encoding:
            add(b"transfer-encoding: chunked")
        if not self.keep_alive:
            add(b"connection: close")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"


class GatewayProtocol(HttpToolsProtocol):
    """Tells the application when its client is gone, and answers what is not HTTP in OpenAI's shape."""

    on_disconnect: Callable[[], None] | None = None
    head_bytes: int | None = None  # of an unfinished head, beyond its first piece
    head_timer: asyncio.TimerHandle | None = None
    idle_timer: asyncio.TimerHandle | None = None
    idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the client some time for its first head."""
        super().connection_made(transport)
        self.head_timer = self.loop.call_later(HEAD_S, self.head_is_late)

    def head_is_late(self) -> None:
        """A connection without a request holds a file descriptor: close it."""
        self.head_timer = None
        if not self.transport.is_closing():
            self.refuse(408, "request_timeout", "The request's head did not arrive in time.")

    def data_received(self, data: bytes) -> None:
        """Parse; a head that does not end is refused before it fills the memory."""
        before = self.head_bytes
        super().data_received(data)
        if self.head_bytes is None:
            return
        if self.head_timer is None and not self.transport.is_closing():
            self.head_timer = self.loop.call_later(HEAD_S, self.head_is_late)
        if before is not None:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.refuse(431, "headers_too_large", "The request's headers are too large.")

    def on_message_begin(self) -> None:
        """Put the connection into the request's scope."""
        super().on_message_begin()
        self.head_bytes = 0
        self.scope[SCOPE_KEY] = self  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Make the cycle that uvicorn has just created a lean one; its task has not run yet."""
        self.head_bytes = None
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
        super().on_headers_complete()
        self.cycle.__class__ = LeanCycle

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or the keep-alive time.

        uvicorn arms and cancels a timer for each request; one per connection that looks at a clock saves
        3 microseconds of each.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self.idle_since = self.loop.time()
        if self.idle_timer is None:
            self.idle_timer = self.loop.call_later(KEEPALIVE_S, self.idle_too_long)

    def idle_too_long(self) -> None:
        """Close the connection if it has been idle all the time, else look again later."""
        left = KEEPALIVE_S - (self.loop.time() - self.idle_since)
        busy = self.head_bytes is not None or not self.cycle.response_complete
        if left > 0 or busy:
            self.idle_timer = self.loop.call_later(max(left, 1.0), self.idle_too_long)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on, then stop the request under way, if it wants to know."""
        super().connection_lost(exc)
        for timer in (self.head_timer, self.idle_timer):
            if timer is not None:
                timer.cancel()
        if self.on_disconnect is not None:
            self.on_disconnect()

    def gone(self) -> bool:
        """Whether nobody would read an answer any more."""
        return self.transport.is_closing()

    def last_request(self) -> None:
        """Close the connection after the answer under way, and say so in its head."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation leaves the None out
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Say so to a client that does not speak HTTP."""
        self.refuse(400, "invalid_http", msg)

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer in OpenAI's shape, like every other error, and close."""
        error = {
            "message": message,
            "type": "invalid_request_error",
            "code": code,
            "param": None,
        }
        body = orjson.dumps({"error": error})
        head = STATUS_LINE[status] + (
            b"content-type: application/json\r\nconnection: close\r\n"
            b"x-request-id: req_%b\r\ncontent-length: %d\r\n\r\n"
            % (os.urandom(12).hex().encode(), len(body))
        )
        self.transport.write(head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server; signals are the worker's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield

    def last_requests(self) -> None:
        """Every open connection ends with the answer that is under way on it."""
        for connection in self.server_state.connections:
            if isinstance(connection, GatewayProtocol):
                connection.last_request()


def make_server(app: object) -> Server:
    """A server for an ASGI application; the caller gives it its sockets."""
    return Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=GatewayProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEPALIVE_S,
        )
    )
