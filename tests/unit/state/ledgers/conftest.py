"""Each ledger test runs on SQLite and on PostgreSQL; `other` is a second worker on the same database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.postgres import PostgresDatabase
from routeiq.state.postgres_migrate import migrate_postgres
from routeiq.state.sqlite import SqliteDatabase
from tests.support.postgres import own_database

AnyDatabase = SqliteDatabase | PostgresDatabase
EMPTY = """
TRUNCATE routeiq_entities, routeiq_documents, routeiq_audit, routeiq_workers RESTART IDENTITY;
UPDATE routeiq_generations SET value = 0;
"""


@pytest.fixture(scope="session")
def migrated() -> Iterator[str]:
    with own_database() as url:
        migrate_postgres(url, SystemClock())
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return str(tmp_path / "routeiq.db")
    migrated: str = request.getfixturevalue("migrated")
    with psycopg.connect(migrated) as connection:
        connection.execute(EMPTY.encode())
    return migrated


def made(url: str) -> AnyDatabase:
    clock = SystemClock()
    link = Link("database", clock)
    if url.startswith("postgresql"):
        return PostgresDatabase(url, link=link, clock=clock, timeout_s=20, pool_size=2)
    return SqliteDatabase(url, link=link, clock=clock, timeout_s=20)


@pytest.fixture
async def database(url: str) -> AsyncIterator[AnyDatabase]:
    opened = made(url)
    yield opened
    await opened.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[AnyDatabase]:
    opened = made(url)
    yield opened
    await opened.close()
