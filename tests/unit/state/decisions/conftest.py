from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from routeiq.state.decisions import SqlDecisions
from routeiq.state.link import Link
from routeiq.state.postgres import PostgresDatabase
from routeiq.state.sqlite import SqliteDatabase
from tests.support.clock import FakeClock

SERVER = os.environ.get("ROUTEIQ_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/postgres")
_numbers = count()
Opened = SqliteDatabase | PostgresDatabase


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A database of its own, migrated; gone afterwards."""
    psycopg = pytest.importorskip("psycopg")
    from routeiq.ports import SystemClock
    from routeiq.state.postgres_migrate import migrate_postgres

    name = f"routeiq_test_{os.getpid()}_decisions_{next(_numbers)}"
    try:
        admin = psycopg.connect(SERVER, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = SERVER.rsplit("/", 1)[0] + "/" + name
        try:
            migrate_postgres(url, SystemClock())
            yield url
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'routeiq.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def open_database(url: str, clock: FakeClock) -> Opened:
    link = Link("database", clock)
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        return SqliteDatabase(path, link=link, clock=clock, durable=False)
    return PostgresDatabase(url, link=link, clock=clock)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Opened]:
    database = open_database(database_url, FakeClock())
    await database.start()
    yield database
    await asyncio.to_thread(database.close_sync)


@pytest.fixture
def decisions(database: Opened) -> SqlDecisions:
    return SqlDecisions(database, pause_s=0.0)
