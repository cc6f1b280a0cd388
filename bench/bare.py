"""The least that a gateway in Python does, as a yardstick of the machine: not the product.

Parse the body, hash the key, replace the model, forward over a kept connection, read the usage. No routing, no
retries, no timeouts, no limits, no log. `BARE_UPSTREAM` is the provider's base URL.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson

Message = MutableMapping[str, Any]
_URL = urlsplit(os.environ.get("BARE_UPSTREAM", "http://127.0.0.1:1/v1"))
_HOST, _PORT = _URL.hostname or "127.0.0.1", _URL.port or 80
_HEAD = (
    f"POST {_URL.path}/chat/completions HTTP/1.1\r\nhost: {_URL.netloc}\r\n"
    "authorization: Bearer sk-upstream\r\ncontent-type: application/json\r\ncontent-length: "
).encode()


class Upstream(asyncio.Protocol):
    """One kept connection: one request at a time, its response as pieces."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.lost = False
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        self._wake()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        if self.lost:
            raise ConnectionError("the provider closed the connection")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def send(self, body: bytes) -> bytes:
        """Send a request; the content type, as soon as the head is there."""
        self.status, self.complete = 0, False
        self.headers.clear()
        self._transport.write(_HEAD + b"%d\r\n\r\n%b" % (len(body), body))
        while not self.status:
            await self._wait()
        return next((value for name, value in self.headers if name == b"content-type"), b"")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it arrives."""
        while True:
            if self._pieces:
                piece = b"".join(self._pieces)
                self._pieces.clear()
                yield piece
            elif self.complete:
                return
            else:
                await self._wait()


class Bare:
    """The ASGI application."""

    def __init__(self) -> None:
        self._idle: list[Upstream] = []
        self.tokens = 0

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        hashlib.sha256(dict(scope["headers"]).get(b"authorization", b"")).digest()
        message = await receive()
        raw = message["body"]
        while message.get("more_body"):
            message = await receive()
            raw += message["body"]
        body = orjson.loads(raw)
        body["model"] = str(body["model"])
        upstream = self._idle.pop() if self._idle else await self._connect()
        kind = await upstream.send(orjson.dumps(body))
        await send(
            {
                "type": "http.response.start",
                "status": upstream.status,
                "headers": [(b"content-type", kind)],
            }
        )
        whole = b""
        async for piece in upstream.pieces():
            if kind.startswith(b"text/event-stream"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                whole += piece
        if whole:
            self.tokens += orjson.loads(whole)["usage"]["total_tokens"]
        await send({"type": "http.response.body", "body": whole})
        if not upstream.lost:
            self._idle.append(upstream)

    async def _connect(self) -> Upstream:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Upstream, _HOST, _PORT))[1]


app = Bare()
