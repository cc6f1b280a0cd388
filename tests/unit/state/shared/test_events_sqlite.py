"""Events through a SQLite file, when the file cannot be read for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.state.database import Session
from routeiq.state.shared import SqliteEvents
from routeiq.state.sqlite import SqliteDatabase
from routeiq.store_checks.events import Listener
from routeiq.types import JsonObject
from tests.support.clock import FakeClock

T = TypeVar("T")
pytestmark = pytest.mark.anyio


class Flaky(SqliteDatabase):
    """A database that can be made to fail."""

    broken = False

    async def run(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        if self.broken:
            raise StoreUnavailable("broken")
        return await super().run(work, write=write)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not done():
            await asyncio.sleep(0.005)


async def test_an_outage_ends_with_a_gap(database: SqliteDatabase) -> None:
    database.__class__ = Flaky
    events = SqliteEvents(database, poll_s=0.01)
    async with Listener(events) as heard:
        assert events.listening
        database.broken = True  # type: ignore[attr-defined]
        await until(lambda: not events.listening)
        with pytest.raises(StoreUnavailable):
            await events.publish("keys", {"n": 0})
        database.broken = False  # type: ignore[attr-defined]
        await until(lambda: events.listening and heard.gaps == 2)
        await events.publish("keys", {"n": 1})
        assert await heard.topic("keys", 1) == [{"n": 1}]


async def test_a_handler_without_its_store_is_called_again_after_a_gap(
    database: SqliteDatabase,
) -> None:
    events = SqliteEvents(database, poll_s=0.01)
    gaps: list[int] = []
    seen: list[JsonObject] = []

    async def on_gap() -> None:
        gaps.append(len(gaps))
        if len(gaps) == 2:
            raise StoreUnavailable("another store")

    async def on_event(topic: str, payload: JsonObject) -> None:
        seen.append(payload)
        if len(seen) == 1:
            raise StoreUnavailable("another store")

    listening = asyncio.create_task(events.listen(on_event, on_gap))
    await until(lambda: events.listening and len(gaps) == 1)
    await events.publish("keys", {"n": 1})
    await until(lambda: events.listening and len(gaps) == 3)
    await events.publish("keys", {"n": 2})
    await until(lambda: len(seen) == 2)
    listening.cancel()
    assert seen == [{"n": 1}, {"n": 2}]


async def test_events_are_heard_after_old_ones_were_deleted(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    events = SqliteEvents(database, poll_s=0.01)
    async with Listener(events) as heard:
        for number in range(3):
            await events.publish("keys", {"n": number})
            await heard.topic("keys", number + 1)
            clock.advance(200.0)
    rows = await database.run(lambda session: session.rows("SELECT id FROM routeiq_events"))
    assert rows == [(3,)]
