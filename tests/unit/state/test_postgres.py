from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest

import routeiq.state
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.database import Session
from routeiq.state.link import Link
from routeiq.state.postgres import CHANNEL, PostgresDatabase
from routeiq.state.postgres_connection import settings_of
from routeiq.state.postgres_migrate import migrate_postgres
from tests.support.postgres import own_database

CLOCK = SystemClock()
PUT = "INSERT INTO routeiq_documents VALUES (:name, 1, NULL, 0.0, '')"
COUNT = "SELECT count(*) FROM routeiq_documents"


def made(url: str, **options: object) -> tuple[PostgresDatabase, Link]:
    link = Link("database", CLOCK)
    return PostgresDatabase(url, link=link, clock=CLOCK, **options), link  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def migrated() -> Iterator[str]:
    with own_database() as url:
        migrate_postgres(url, CLOCK)
        yield url


@pytest.fixture
def url(migrated: str) -> str:
    with psycopg.connect(migrated) as connection:
        connection.execute("TRUNCATE routeiq_documents")
    return migrated


@pytest.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    database, link = made(url, pool_size=3)
    await database.start()
    assert link.state == "up"
    yield database
    await database.close()


async def documents(database: PostgresDatabase) -> int:
    row = await database.run(lambda session: session.row(COUNT), write=False)
    assert row is not None
    return int(row[0])


def cut_all(url: str) -> None:
    """What a restart of the server does to connections that exist."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'routeiq'"
        )


@pytest.mark.anyio
async def test_a_session_does_what_it_says(database: PostgresDatabase) -> None:
    def work(session: Session) -> None:
        assert session.dialect == "postgresql"
        session.many(PUT, [{"name": "a"}, {"name": "b"}])
        session.many(PUT, [])
        assert session.row("SELECT name FROM routeiq_documents ORDER BY name") == ("a",)
        assert session.rows(PUT + " RETURNING name", {"name": "c%"}) == [("c%",)]
        assert session.rows("DELETE FROM routeiq_documents WHERE name = 'a'") == []
        assert session.row("DELETE FROM routeiq_documents WHERE name = 'none'") is None
        assert session.count("DELETE FROM routeiq_documents") == 2
        assert abs(session.now() - CLOCK.wall()) < 60
        assert session.now() == session.now()

    await database.run(work)


@pytest.mark.anyio
async def test_an_error_of_the_work_rolls_back_and_is_raised(database: PostgresDatabase) -> None:
    def work(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await database.run(work)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.run(lambda s: s.many(PUT, [{"name": "b"}, {"name": "b"}]))
    assert await documents(database) == 0


@pytest.mark.anyio
async def test_work_that_goes_on_after_an_error_is_told(database: PostgresDatabase) -> None:
    def work(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        with pytest.raises(psycopg.errors.UniqueViolation):
            session.count(PUT, {"name": "a"})

    with pytest.raises(RuntimeError, match="nothing was written"):
        await database.run(work)
    assert await documents(database) == 0


@pytest.mark.anyio
async def test_no_transaction_is_left_open(database: PostgresDatabase, url: str) -> None:
    for sql in ("SELECT 1", "SELECT 1/0", "NONSENSE"):
        for write in (True, False):
            await asyncio.gather(
                database.run(lambda session, sql=sql: session.rows(sql), write=write),  # type: ignore[misc]
                return_exceptions=True,
            )
    with psycopg.connect(url) as connection:
        states = connection.execute(
            "SELECT DISTINCT state FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'routeiq'"
        ).fetchall()
    assert states == [("idle",)]


@pytest.mark.anyio
async def test_a_read_sees_one_snapshot_and_writes_nothing(database: PostgresDatabase) -> None:
    first, go_on = threading.Event(), threading.Event()

    def twice(session: Session) -> list[object]:
        before = session.row(COUNT)
        first.set()
        assert go_on.wait(10)
        return [before, session.row(COUNT)]

    reading = asyncio.create_task(database.run(twice, write=False))
    await asyncio.to_thread(first.wait, 10)
    await database.run(lambda session: session.count(PUT, {"name": "a"}))
    go_on.set()
    assert await reading == [(0,), (0,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await database.run(lambda session: session.count(PUT, {"name": "b"}), write=False)
    assert await documents(database) == 1  # and that was no outage


@pytest.mark.anyio
@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_victim_is_tried_again(database: PostgresDatabase, state: str) -> None:
    tries = 0

    def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        session.count(PUT, {"name": f"{tries}"})
        if tries < 3:
            session.rows(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")

    await database.run(work)
    names = await database.run(lambda s: s.rows("SELECT name FROM routeiq_documents"))
    assert names == [("3",)]


@pytest.mark.anyio
async def test_a_deadlock_is_resolved(database: PostgresDatabase) -> None:
    await database.run(lambda s: s.many(PUT, [{"name": "a"}, {"name": "b"}]))
    both = threading.Barrier(2, timeout=10)

    def in_order(*names: str) -> Callable[[Session], None]:
        waited: list[int] = []

        def work(session: Session) -> None:
            for name in names:
                session.count(
                    "UPDATE routeiq_documents SET version = version + 1 WHERE name = :name",
                    {"name": name},
                )
                if not waited:
                    waited.append(both.wait())

        return work

    await asyncio.gather(
        database.run(in_order("a", "b")),
        database.run(in_order("b", "a")),
    )
    rows = await database.run(lambda s: s.rows("SELECT version FROM routeiq_documents"))
    assert rows == [(3,), (3,)]


@pytest.mark.anyio
async def test_connections_that_died_idle_are_replaced(
    database: PostgresDatabase, url: str
) -> None:
    together = threading.Barrier(3, timeout=10)
    await asyncio.gather(*(database.run(lambda _: together.wait()) for _ in range(3)))
    cut_all(url)
    await asyncio.gather(
        *(database.run(lambda s, n=n: s.count(PUT, {"name": f"{n}"})) for n in range(9))  # type: ignore[misc]
    )
    assert await documents(database) == 9


@pytest.mark.anyio
async def test_a_connection_that_dies_in_use_is_an_outage(url: str) -> None:
    database, link = made(url)
    await database.start()

    def work(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        cut_all(url)
        session.count(PUT, {"name": "b"})

    with pytest.raises(StoreUnavailable, match="terminating connection"):
        await database.run(work)
    assert link.state == "down"
    await database.ping()
    link.worked()
    assert await documents(database) == 0
    await database.close()


@pytest.mark.anyio
async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    database, link = made(url, timeout_s=1.5)
    await database.start()
    with pytest.raises(StoreUnavailable):
        await database.run(lambda session: session.rows("SELECT pg_sleep(30)"))
    assert link.state == "up"  # once is not down
    assert await documents(database) == 0
    await database.close()


@pytest.mark.anyio
async def test_announcements_arrive_with_the_commit(database: PostgresDatabase, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}".encode())
        await database.run(lambda session: session.notify("keys", '{"id":"it\'s"}'))
        heard = await asyncio.to_thread(
            lambda: [notice.payload for notice in listener.notifies(timeout=10, stop_after=1)]
        )
    assert heard == ['{"topic":"keys","payload":{"id":"it\'s"}}']


@pytest.mark.anyio
async def test_a_closed_database_is_unavailable(url: str) -> None:
    database, _ = made(url)
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.run(lambda session: session.row("SELECT 1"))
    await database.close()


@pytest.mark.anyio
async def test_until_it_is_migrated_it_is_unavailable() -> None:
    with own_database() as url:
        database, link = made(url)
        await database.start()
        assert link.state == "down"
        assert "run `routeiq admin migrate`" in (link.error or "")
        with pytest.raises(StoreUnavailable, match="routeiq admin migrate"):
            await database.ping()
        migrate_postgres(url, CLOCK)
        await database.ping()
        link.worked()
        assert await documents(database) == 0
        with psycopg.connect(url) as connection:
            later = "INSERT INTO routeiq_migrations VALUES (9999, 'later', 'x', 0, 'done')"
            connection.execute(later)
        cut_all(url)
        with pytest.raises(StoreUnavailable, match="used by a newer one"):
            await database.run(lambda session: session.count(PUT, {"name": "a"}))
        await database.close()


@pytest.mark.anyio
async def test_passwords_are_never_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for url in (
        "postgresql://u:s3cr%25t@127.0.0.1:1/d",
        "postgresql://u@127.0.0.1:1/d?password=s3cr%25t",
        "postgresql://postgres:s3cr%25t@127.0.0.1:5432/s3cr%25t",  # which is in the error
    ):
        database, link = made(url)
        await database.start()
        with pytest.raises(StoreUnavailable) as raised:
            await database.run(lambda session: session.row("SELECT 1"))
        with pytest.raises(psycopg.Error) as pinged:
            await database.ping()
        said = f"{raised.value!r} {link.error} {pinged.value!r}"
        assert "s3cr" not in said + "".join(map(str, map(vars, caplog.records)))
        await database.close()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hidden@h/d",
        "postgresql://u:hidden@h/d?nonsense=1",
        "hidden",
    ],
)
def test_what_is_no_url_of_postgresql(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as raised:
        made(url)
    assert "hidden" not in str(raised.value)


def test_urls_of_other_tools_are_understood() -> None:
    settings = settings_of("postgresql+psycopg://u:p@h/d?sslmode=require&pgbouncer=true", 5)
    assert settings.url == "postgresql://u:p@h/d?sslmode=require"
    assert settings.pooled
    assert not settings_of("postgres://h1:1,h2:2/d", 5).pooled


@pytest.mark.anyio
async def test_behind_pgbouncer_nothing_outlasts_a_transaction(url: str) -> None:
    database, link = made(f"{url}?pgbouncer=true", timeout_s=4)
    await database.start()
    for _ in range(8):  # psycopg prepares what it has seen five times
        shown = await database.run(lambda session: session.row("SHOW statement_timeout"))
        assert shown == ("4s",)
    prepared = "SELECT count(*) FROM pg_prepared_statements"
    assert await database.run(lambda session: session.row(prepared)) == (0,)
    assert link.state == "up"
    await database.close()


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "routeiq.state.postgres_connection", raising=False)
    monkeypatch.delattr(routeiq.state, "postgres_connection", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'routeiq-router\[postgres\]'"):
        made("postgresql://h/d")
