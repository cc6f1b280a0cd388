"""A TCP proxy between a client and a server that can cut them apart, loudly or without a word."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

CHUNK = 65_536


class TcpProxy:
    """Listens on a free loopback port and passes everything on to `port`. `accepted` counts connections."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def blackhole(self) -> None:
        """From now on nothing arrives and nobody is told: a network that lost its route."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def cut(self) -> None:
        """Connections are reset, new ones refused: a host that is gone."""
        self._do(self._close())

    def heal(self) -> None:
        """As if nothing had been."""
        self._loop.call_soon_threadsafe(self._open.set)
        if self._server is None:
            self._do(self._listen())

    def close(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._loop.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self._open.wait()
            there, away = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(away)
        try:
            await asyncio.gather(self._pass(reader, away), self._pass(there, writer))
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, so is the other
        finally:
            for one in (writer, away):
                self._writers.discard(one)
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("closed")


@contextlib.contextmanager
def tcp_proxy(port: int) -> Iterator[TcpProxy]:
    """A proxy in front of a loopback port, ended with the block."""
    with contextlib.closing(TcpProxy(port)) as proxy:
        yield proxy
