"""Control state in one worker: documents are read, applied to the runtime, and what was applied is reported.

A change is announced and read at once; it is read again every few seconds in case the announcement was lost. What
cannot be applied (a strategy that this version does not know) is reported, and what was there before goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from routeiq._version import __version__
from routeiq.config.section import StrategyChoice
from routeiq.exceptions import StoreUnavailable
from routeiq.resilience.breaker import Override
from routeiq.stores import Document, Worker
from routeiq.types import JsonObject

if TYPE_CHECKING:
    from routeiq.gateway.process import Process
    from routeiq.gateway.runtime import Runtime

logger = logging.getLogger("routeiq.gateway")
STRATEGY = "strategy"
EXPERIMENTS = "experiments"
BREAKERS = "breakers"
BEAT_S = 5.0
OVERRIDES = TypeAdapter(dict[str, Override])
BLIND_S = 0.5
"""How often documents are read while announcements do not arrive."""


class Control:
    """Reads and applies. One per worker; it outlives reloads."""

    def __init__(self, process: Process, current: Callable[[], Runtime]) -> None:
        self._process = process
        self._current = current
        self._documents: Mapping[str, Document] = {}
        self._applying = asyncio.Lock()
        self._poke = asyncio.Event()
        self._started_at = process.clock.wall()
        self.generation = -1
        self.directory = -1
        self.workers = 0
        self.problems: dict[str, str] = {}
        self._reported: tuple[int, int, str] | None = None

    def status(self) -> JsonObject:
        """For the admin API."""
        return {
            "generation": max(self.generation, 0),
            "keys_generation": max(self.directory, 0),
            "versions": {name: one.version for name, one in self._documents.items()},
            "problems": dict(self.problems),
        }

    def poke(self) -> None:
        """Something changed: read soon."""
        self._poke.set()

    async def run(self) -> None:
        """Read, apply and report until cancelled."""
        last_beat = -BEAT_S
        while True:
            self._poke.clear()
            try:
                await self.refresh()
                now = self._process.clock.monotonic()
                applied = (self.generation, self.directory, self._current().config.digest)
                if applied != self._reported or now - last_beat >= BEAT_S:
                    await self.beat()
                    self._reported, last_beat = applied, now
            except StoreUnavailable:  # the link has said so, and reads again when it is back
                logger.debug("control state cannot be read")
            except Exception:  # fire-wall: the loop must outlive whatever a document holds
                logger.exception("control state cannot be applied")
            await self._wait()

    async def _wait(self) -> None:
        """Until something changed, or it is time to read again. In steps: announcements may cease meanwhile."""
        reread_s, waited_s = self._process.config.routeiq.state.reread_s, 0.0
        while waited_s < min(reread_s if self._process.hearing else BLIND_S, reread_s, BEAT_S):
            try:
                async with asyncio.timeout(min(BLIND_S, reread_s)):
                    await self._poke.wait()
                    return
            except TimeoutError:
                waited_s += BLIND_S

    async def refresh(self) -> None:
        """Take what changed since the last look.

        Raises:
            StoreUnavailable: the documents cannot be read; what was applied stays.
        """
        state, keys = self._process.state, self._process.keys
        async with self._applying:
            # Read inside the lock: what was read before another's change must not undo it.
            generation, documents = await state.documents.all()
            directory = await state.directory.generation()
            if directory != self.directory:
                await keys.refresh(directory)
                self.directory = directory
            if generation != self.generation:
                self._documents = documents
                await self.apply(self._current())
                self.generation = generation

    async def apply(self, runtime: Runtime) -> None:
        """Bring a runtime to what the documents say; also used before a reloaded one is swapped in."""
        documents = None
        while documents is not self._documents:  # they may change while a strategy loads
            documents = self._documents
            await self._apply(runtime, documents)

    async def _apply(self, runtime: Runtime, documents: Mapping[str, Document]) -> None:
        for name, work in (
            (STRATEGY, self._strategy),
            (EXPERIMENTS, self._experiments),
            (BREAKERS, self._breakers),
        ):
            document = documents.get(name)
            body = None if document is None else document.body
            try:
                await work(runtime, body)
            except (
                Exception
            ) as error:  # fire-wall: one document must not keep the others from being applied
                said = str(error)[:500]
                if self.problems.get(name) != said:
                    logger.error(
                        "control state refused, what was there stays",
                        extra={"document": name, "error": said},
                    )
                self.problems[name] = said
            else:
                self.problems.pop(name, None)

    async def _strategy(self, runtime: Runtime, body: JsonObject | None) -> None:
        choice = None if body is None else StrategyChoice.model_validate(body)
        await asyncio.to_thread(runtime.router.activate, choice)

    async def _experiments(self, runtime: Runtime, body: JsonObject | None) -> None:
        await runtime.experiment(body)

    async def _breakers(self, runtime: Runtime, body: JsonObject | None) -> None:
        self._process.breakers.override(OVERRIDES.validate_python(body or {}))

    async def beat(self) -> None:
        """Report what this worker has applied.

        Raises:
            StoreUnavailable: it cannot be stored.
        """
        process = self._process
        self.workers = len(await process.state.roster.all())
        await process.state.roster.beat(
            Worker(
                id=process.worker,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=self._started_at,
                seen_at=process.clock.wall(),
                generation=max(self.generation, 0),
                directory=max(self.directory, 0),
                config=self._current().config.digest,
                version=__version__,
            )
        )
