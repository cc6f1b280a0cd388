"""`Events` between processes that share a SQLite file: a table that each polls."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import orjson

from routeiq.exceptions import StoreUnavailable
from routeiq.state.database import Database, Row
from routeiq.state.link import RETRY_MAX_S, RETRY_MIN_S
from routeiq.stores import OnEvent
from routeiq.types import JsonObject

logger = logging.getLogger("routeiq.state")
LAST = "SELECT coalesce(max(id), 0) FROM routeiq_events"
NEW = "SELECT id, topic, payload FROM routeiq_events WHERE id > :last ORDER BY id"


class SqliteEvents:
    """An event is heard within `poll_s`.

    Ids are given in the order of commits, since one transaction writes at a time: none is skipped.
    `Session.notify` deletes rows after a minute.
    """

    def __init__(self, database: Database, *, poll_s: float = 0.1) -> None:
        self.listening = False
        self._database = database
        self._poll_s = poll_s
        self._rng = random.Random()

    async def publish(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker, this one included."""
        text = orjson.dumps(payload).decode()
        await self._database.run(lambda session: session.notify(topic, text))

    async def listen(self, on_event: OnEvent, on_gap: Callable[[], Awaitable[None]]) -> None:
        """Hear events until cancelled; after an outage there is a gap."""
        pause = RETRY_MIN_S
        while True:
            try:
                last = await self._last()
                self.listening = True
                await on_gap()
                pause = RETRY_MIN_S
                await self._poll(last, on_event)
            except StoreUnavailable as error:
                logger.debug("cannot listen for events", extra={"error": str(error)})
            finally:
                self.listening = False
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MAX_S)

    async def _poll(self, last: int, on_event: OnEvent) -> None:
        while True:
            for id, topic, payload in await self._after(last):
                last = id
                await on_event(topic, orjson.loads(payload))
            await asyncio.sleep(self._poll_s)

    async def _last(self) -> int:
        row = await self._database.run(lambda session: session.row(LAST), write=False)
        return int(row[0]) if row else 0

    async def _after(self, last: int) -> list[Row]:
        return await self._database.run(
            lambda session: session.rows(NEW, {"last": last}), write=False
        )
