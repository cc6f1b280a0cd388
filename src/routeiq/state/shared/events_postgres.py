"""`Events` over PostgreSQL: a connection of its own that does nothing but LISTEN."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from routeiq.exceptions import StoreUnavailable
from routeiq.state.database import Database
from routeiq.state.link import PING_S, RETRY_MAX_S, RETRY_MIN_S
from routeiq.state.postgres import CHANNEL, require_driver
from routeiq.stores import OnEvent
from routeiq.types import JsonObject

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("routeiq.state")
REREAD_S = 0.5
"""How often a gap is announced where nothing can be heard: a PgBouncer that pools transactions loses LISTEN."""
DEAD_AFTER_S = 5.0
"""A server that does not answer for this long is gone, though nobody said so."""


class PostgresEvents:
    """Publishes through the database's pool, listens on a connection of its own.

    `ping_s` is how often a silent server is asked whether it is there: a host that vanished sends nothing.
    """

    def __init__(self, database: Database, url: str, *, ping_s: float = PING_S) -> None:
        self.listening = False
        self._database = database
        self._driver = require_driver()
        self._settings = self._driver.settings_of(url, DEAD_AFTER_S)
        self._ping_s = ping_s
        self._rng = random.Random()

    async def publish(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker, this one included."""
        text = orjson.dumps(payload).decode()
        await self._database.run(lambda session: session.notify(topic, text))

    async def listen(self, on_event: OnEvent, on_gap: Callable[[], Awaitable[None]]) -> None:
        """Hear events until cancelled; each (re)connection begins with a gap."""
        pause = RETRY_MIN_S
        while True:
            try:
                if self._settings.pooled:
                    await self._reread(on_gap)
                async with await self._connect() as connection:
                    await self._ask(connection, f"LISTEN {CHANNEL}")
                    self.listening = True
                    pause = RETRY_MIN_S
                    await on_gap()
                    await self._hear(connection, on_event)
            except (StoreUnavailable, OSError, self._driver.psycopg.Error) as error:
                logger.info("events are not heard", extra={"error": type(error).__name__})
            finally:
                self.listening = False
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MAX_S)

    async def _hear(self, connection: psycopg.AsyncConnection[Any], on_event: OnEvent) -> None:
        while True:
            async for notice in connection.notifies(timeout=self._ping_s):
                message = orjson.loads(notice.payload)
                await on_event(message["topic"], message["payload"])
            await self._ask(connection, "SELECT 1")

    async def _ask(self, connection: psycopg.AsyncConnection[Any], sql: str) -> None:
        asking = asyncio.create_task(connection.execute(sql.encode()))
        try:
            await asyncio.wait({asking}, timeout=DEAD_AFTER_S)
            if not asking.done():
                raise TimeoutError  # an OSError
            await asking
        finally:
            if not asking.done():
                connection.pgconn.finish()  # else psycopg asks the same server to cancel, and waits
                asking.cancel()
                await asyncio.wait({asking})

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        async with asyncio.timeout(DEAD_AFTER_S):
            connection: psycopg.AsyncConnection[
                Any
            ] = await self._driver.psycopg.AsyncConnection.connect(
                self._settings.url,
                autocommit=True,
                application_name="routeiq events",
                keepalives_idle=10,
                keepalives_interval=3,
                keepalives_count=3,
            )
        return connection

    async def _reread(self, on_gap: Callable[[], Awaitable[None]]) -> None:
        while True:
            await on_gap()
            await asyncio.sleep(REREAD_S)
