"""Events over PostgreSQL, when connections are cut and servers vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.postgres import PostgresDatabase
from routeiq.state.postgres_migrate import migrate_postgres
from routeiq.state.shared import PostgresEvents, events_postgres
from routeiq.store_checks.events import Listener
from tests.support.postgres import own_database, own_server

pytestmark = pytest.mark.anyio
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'routeiq events'"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_database() as made:
        migrate_postgres(made, SystemClock())
        yield made


@asynccontextmanager
async def opened(url: str, ping_s: float = 5.0) -> AsyncIterator[PostgresEvents]:
    clock = SystemClock()
    database = PostgresDatabase(url, link=Link("database", clock), clock=clock, timeout_s=20.0)
    await database.start()
    yield PostgresEvents(database, url, ping_s=ping_s)
    await database.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not done():
            await asyncio.sleep(0.01)


async def test_a_cut_connection_is_replaced_with_a_gap(url: str) -> None:
    async with opened(url) as events, Listener(events) as heard:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(CUT.encode())
        await until(lambda: heard.gaps == 2)
        await events.publish("keys", {"n": 1})
        assert await heard.topic("keys", 1) == [{"n": 1}]


async def test_events_between_two_pings_are_heard(url: str) -> None:
    async with opened(url, ping_s=0.01) as events, Listener(events) as heard:
        for number in range(50):
            await events.publish("keys", {"n": number})
            await asyncio.sleep(0.005)
        assert await heard.topic("keys", 50) == [{"n": number} for number in range(50)]
        assert heard.gaps == 1


async def test_through_a_pool_that_loses_listen_everything_is_read_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_postgres, "REREAD_S", 0.01)
    async with opened(url + "?pgbouncer=true") as events, Listener(events) as heard:
        await until(lambda: heard.gaps > 3)
        assert not events.listening
        await events.publish("keys", {"n": 1})


async def test_a_server_that_vanished_is_noticed_and_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_postgres, "DEAD_AFTER_S", 1.0)
    with own_server() as server:
        migrate_postgres(server.url, SystemClock())
        async with opened(server.url, ping_s=0.2) as events, Listener(events) as heard:
            server.freeze()
            await until(lambda: not events.listening)
            server.thaw()
            await until(lambda: events.listening and heard.gaps == 2)
            server.stop()
            await until(lambda: not events.listening)
            server.start()
            await until(lambda: events.listening and heard.gaps == 3)
            await events.publish("keys", {"n": 1})
            assert await heard.topic("keys", 1) == [{"n": 1}]
