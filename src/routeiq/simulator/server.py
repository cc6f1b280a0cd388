"""A simulator in a thread, for as long as a `with` block."""

from __future__ import annotations

import asyncio
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
    """An OpenAI-compatible provider on a real socket: `with Simulator() as sim: sim.url`.

    Port 0 takes a free one. `latency` scales the models' own speed: 0 answers at once, 1 as they say.
    Entering raises `OSError` where the address cannot be had.
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

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="simulator", daemon=True)
        self._thread.start()
        started.result()
        return self

    def _run(self, started: Future[None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve(started))
            except OSError as error:  # told to whoever enters
                started.set_exception(error)

    async def _serve(self, started: Future[None]) -> None:
        host, port = self._address
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self._app), host, port, ssl=self._tls, backlog=2048
        )
        self.url = f"http{'s' if self._tls else ''}://{host}:{server.sockets[0].getsockname()[1]}"
        started.set_result(None)
        await self._stop.wait()
        server.close()
        for transport in self._app.connections.copy():
            transport.abort()
        await asyncio.sleep(0)  # lets the transports tell their protocols

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
