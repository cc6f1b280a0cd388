"""A TCP server whose every connection runs a script: for clients that must survive bad servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Script = Callable[["Peer"], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Peer:
    """The server's side of one connection. `number` counts connections from 1."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    requests: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> bytes:
        """The next request, head and body; raises `IncompleteReadError` when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        whole = head + await self.reader.readexactly(length)
        self.requests.append(whole)
        return whole

    async def say(self, *pieces: bytes) -> None:
        """Send `pieces`, each in a packet of its own as far as the kernel allows."""
        for piece in pieces:
            if self.writer.transport.is_closing():
                raise ConnectionResetError  # uvloop's own error would be a RuntimeError
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until the client has closed or cut the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@dataclass(slots=True, kw_only=True)
class ScriptedServer:
    """What a test may look at."""

    port: int
    peers: list[Peer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, path: str | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run `script` for every connection; its task is cancelled at the end, its errors are raised."""
    tasks: list[asyncio.Task[None]] = []
    served = ScriptedServer(port=0)

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        peer = Peer(reader=reader, writer=writer, number=len(tasks))
        served.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.transport.abort()
            peer.ended.set()

    if path is None:
        server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls)
        served.port = server.sockets[0].getsockname()[1]
    else:
        server = await asyncio.start_unix_server(run, path)
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await server.wait_closed()


def answer(body: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with Content-Length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def always_ok(peer: Peer) -> None:
    """Answers every request with `ok`."""
    while True:
        await peer.request()
        await peer.say(answer())
