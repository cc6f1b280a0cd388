"""Running a simulator: in this process until a signal, or in a thread for as long as a `with` block."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Self, TypeVar

import uvloop

from routeiq.ports import Clock, SystemClock
from routeiq.types import JsonObject

from .app import App
from .http import Connection
from .models import CATALOGUE, SimulatedModel
from .record import ReceivedRequest

_T = TypeVar("_T")


class Simulator:
    """An OpenAI-compatible provider on a real socket.

    `with Simulator() as sim:` runs it in a thread, `run()` in the calling thread until SIGTERM or SIGINT.
    Port 0 takes a free one. `latency` scales the models' own speed: 0 answers at once, 1 as they say.
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel] = CATALOGUE,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._app = App(models, latency, clock or SystemClock())
        self._address = host, port
        self._tls = tls
        self.url = ""

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until a signal; `on_ready` gets the URL once connections are accepted."""

        async def serve() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await self._serve(stop, lambda: on_ready(self.url))

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    async def _serve(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        host, port = self._address
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self._app), host, port, ssl=self._tls, backlog=2048
        )
        self.url = f"http{'s' if self._tls else ''}://{host}:{server.sockets[0].getsockname()[1]}"
        ready()
        await stop.wait()
        server.close()
        for transport in self._app.connections.copy():
            transport.abort()
        await asyncio.sleep(0)  # lets the transports tell their protocols

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._stop = asyncio.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._serve(self._stop, lambda: started.set_result(None))

        def target() -> None:
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(serve())
            except OSError as error:  # the address is taken: told to whoever starts it
                started.set_exception(error)

        self._thread = Thread(target=target, name="simulator", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _call(self, function: Callable[[], _T]) -> _T:
        """Run `function` where the state lives: in the server's thread."""

        async def call() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """What was received since the last reset, oldest first (bounded)."""
        return self._call(self._app.log.all)

    @property
    def stats(self) -> JsonObject:
        """Counts, as `GET /_simulator/stats` gives them."""
        return self._call(self._app.stats)

    def behave(self, behaviour: str, model: str = "*") -> None:
        """Steer every request for models that match the glob `model`, until `mend` or `reset`."""
        self._call(lambda: self._app.behave(behaviour, model))

    def mend(self, model: str | None = None) -> None:
        """Undo `behave` for this glob, or for all."""
        self._call(lambda: self._app.mend(model))

    def reset(self) -> None:
        """Forget rules, requests and counters."""
        self._call(self._app.reset)
