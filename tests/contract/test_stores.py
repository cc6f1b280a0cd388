"""Every store that ships passes the public contract suite, as a third party's would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from routeiq.ports import SystemClock
from routeiq.state.database import Database
from routeiq.state.decisions.store import SqlDecisions
from routeiq.state.ledgers import SqlAudit, SqlDirectory, SqlDocuments, SqlRoster
from routeiq.state.link import Link
from routeiq.state.memory import (
    MemoryAudit,
    MemoryBoard,
    MemoryConversations,
    MemoryCounters,
    MemoryDecisions,
    MemoryDirectory,
    MemoryDocuments,
    MemoryEvents,
    MemoryLeases,
    MemoryLimits,
    MemoryRoster,
)
from routeiq.state.postgres import PostgresDatabase
from routeiq.state.postgres_migrate import migrate_postgres
from routeiq.state.shared import (
    PostgresEvents,
    SqlBoard,
    SqlConversations,
    SqlCounters,
    SqliteEvents,
    SqlLeases,
    SqlLimits,
)
from routeiq.state.sqlite import SqliteDatabase
from routeiq.store_checks import Connected, StoreCheck, StoreFactory, Stores, store_checks
from routeiq.stores import Events
from tests.support.clock import FakeClock
from tests.support.postgres import own_database

pytestmark = pytest.mark.anyio
CHECKS = pytest.mark.parametrize("check", store_checks(), ids=lambda check: check.__name__[6:])
TIMEOUT_S = 30.0
"""The machine may be busy: the suite checks what is answered, not how soon."""


def memory_stores(clock: FakeClock) -> Stores:
    """Two workers of one process share the objects themselves."""
    audit, events = MemoryAudit(clock), MemoryEvents()
    return Stores(
        directory=MemoryDirectory(clock, audit, events),
        documents=MemoryDocuments(clock, audit, events),
        audit=audit,
        roster=MemoryRoster(clock),
        decisions=MemoryDecisions(),
        limits=MemoryLimits(clock),
        counters=MemoryCounters(),
        board=MemoryBoard(clock, events),
        conversations=MemoryConversations(clock),
        leases=MemoryLeases(clock),
        events=events,
    )


def sql_stores(database: Database, events: Events) -> Stores:
    """All stores of one worker in a database."""
    return Stores(
        directory=SqlDirectory(database),
        documents=SqlDocuments(database),
        audit=SqlAudit(database),
        roster=SqlRoster(database),
        decisions=SqlDecisions(database),
        limits=SqlLimits(database),
        counters=SqlCounters(database),
        board=SqlBoard(database),
        conversations=SqlConversations(database),
        leases=SqlLeases(database),
        events=events,
    )


@asynccontextmanager
async def in_memory() -> AsyncIterator[Connected]:
    """One set for both, and a clock that is moved."""
    clock = FakeClock()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    stores = memory_stores(clock)
    yield Connected(first=stores, second=stores, sleep=sleep)


async def opened(
    stack: AsyncExitStack, database: SqliteDatabase | PostgresDatabase
) -> SqliteDatabase | PostgresDatabase:
    """Connected until the stack ends."""
    stack.push_async_callback(database.close)
    await database.start()
    return database


def sqlite_factory(folder: Path) -> StoreFactory:
    """Each call is a new file, whose clock is moved, with two connections."""
    numbers = count()

    @asynccontextmanager
    async def factory() -> AsyncIterator[Connected]:
        path, clock = folder / f"routeiq-{next(numbers)}.db", FakeClock()

        async def sleep(seconds: float) -> None:
            clock.advance(seconds)

        async with AsyncExitStack() as stack:
            both = []
            for name in ("first", "second"):
                database = SqliteDatabase(
                    path,
                    link=Link(name, clock),
                    clock=clock,
                    timeout_s=TIMEOUT_S,
                    durable=False,
                )
                await opened(stack, database)
                both.append(sql_stores(database, SqliteEvents(database, poll_s=0.02)))
            yield Connected(first=both[0], second=both[1], sleep=sleep)

    return factory


def postgres_factory(url: str) -> StoreFactory:
    """Each call empties every table; time is the server's, so the checks really wait."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[Connected]:
        empty(url)
        async with AsyncExitStack() as stack:
            both = []
            for name in ("first", "second"):
                clock = SystemClock()
                database = PostgresDatabase(
                    url, link=Link(name, clock), clock=clock, timeout_s=TIMEOUT_S
                )
                await opened(stack, database)
                both.append(sql_stores(database, PostgresEvents(database, url)))
            yield Connected(first=both[0], second=both[1])

    return factory


def empty(url: str) -> None:
    """Delete every row but those that the migrations wrote."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename LIKE 'routeiq_%' AND tablename NOT IN"
            " ('routeiq_migrations', 'routeiq_generations', 'routeiq_feedback_position')"
        ).fetchall()
        for (name,) in found:  # far quicker than TRUNCATE, which makes new files
            connection.execute(f"DELETE FROM {name}".encode())


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A migrated database of this test run."""
    with own_database() as url:
        migrate_postgres(url, SystemClock())
        yield url


@CHECKS
async def test_memory(check: StoreCheck) -> None:
    await check(in_memory)


@CHECKS
async def test_sqlite(check: StoreCheck, tmp_path: Path) -> None:
    await check(sqlite_factory(tmp_path))


@CHECKS
async def test_postgresql(check: StoreCheck, postgres: str) -> None:
    await check(postgres_factory(postgres))
