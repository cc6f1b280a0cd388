from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.database import Session
from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from tests.support.clock import FakeClock

PUT = "INSERT INTO routeiq_documents VALUES (:name, 1, NULL, 0.0, '')"
COUNT = "SELECT count(*) FROM routeiq_documents"


def opened(path: Path, clock: FakeClock | None = None, **options: object) -> SqliteDatabase:
    clock = clock or FakeClock()
    return SqliteDatabase(path, link=Link("database", clock), clock=clock, **options)  # type: ignore[arg-type]


def put(name: str) -> Callable[[Session], int]:
    return lambda session: session.count(PUT, {"name": name})


def many_documents(session: Session) -> None:
    session.many(PUT, [{"name": f"{number:04}" + "x" * 4000} for number in range(200)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routeiq.db"


@pytest.fixture
async def database(path: Path, clock: FakeClock) -> AsyncIterator[SqliteDatabase]:
    made = opened(path, clock)
    await made.start()
    yield made
    await made.close()


async def documents(database: SqliteDatabase) -> int:
    row = await database.run(lambda session: session.row(COUNT), write=False)
    assert row is not None
    return int(row[0])


@pytest.mark.anyio
async def test_only_the_owner_may_read_the_files(database: SqliteDatabase, path: Path) -> None:
    await database.run(put("a"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("routeiq.db", "routeiq.db-wal", "routeiq.db-shm"), 0o600)


@pytest.mark.anyio
@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_how_a_connection_is_set_up(path: Path, durable: bool, synchronous: int) -> None:
    database = opened(path, durable=durable)
    names = ("journal_mode", "synchronous", "foreign_keys")
    found = await database.run(lambda s: [s.rows(f"PRAGMA {name}")[0][0] for name in names])
    await database.close()
    assert found == ["wal", synchronous, 1]


@pytest.mark.anyio
async def test_an_error_of_the_work_rolls_back_and_is_raised(database: SqliteDatabase) -> None:
    def work(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await database.run(work)
    with pytest.raises(sqlite3.IntegrityError):
        await database.run(lambda s: s.many(PUT, [{"name": "b"}, {"name": "b"}]))
    assert await documents(database) == 0


@pytest.mark.anyio
async def test_reads_do_not_wait_for_a_write(database: SqliteDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        begun.set()
        assert go_on.wait(10)

    writing = asyncio.create_task(database.run(slow))
    await asyncio.to_thread(begun.wait, 10)
    assert await documents(database) == 0
    go_on.set()
    await writing
    assert await documents(database) == 1


@pytest.mark.anyio
async def test_a_read_cannot_write_and_that_is_no_outage(database: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.run(put("a"), write=False)
    assert await documents(database) == 0


@pytest.mark.anyio
async def test_a_lock_of_another_process_is_waited_for(path: Path) -> None:
    database = opened(path)
    await database.start()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(database.run(put("a")))
    await documents(database)
    assert not writing.done()
    other.execute("COMMIT")
    await writing
    other.close()
    await database.close()


@pytest.mark.anyio
async def test_a_lock_that_is_not_released_is_slowness(path: Path, clock: FakeClock) -> None:
    link = Link("database", clock)
    database = SqliteDatabase(path, link=link, clock=clock, timeout_s=0.5)
    patient = opened(path, clock, timeout_s=30.0)
    await patient.start()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await database.run(put("a"))
    assert link.state != "down"  # once is not
    await database.close()
    other.execute("COMMIT")
    other.close()
    await patient.run(put("b"))
    assert await documents(patient) == 1
    await patient.close()


@pytest.mark.anyio
async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    database = opened(tmp_path / "not" / "there.db")
    with pytest.raises(ConfigError, match=r"not does not exist.*Make the folder"):
        await database.start()
    await database.close()


@pytest.mark.anyio
async def test_a_corrupt_file_is_down_until_it_is_whole(path: Path, clock: FakeClock) -> None:
    path.write_bytes(b"this is no database at all" * 100)
    link = Link("database", clock)
    database = SqliteDatabase(path, link=link, clock=clock)
    await database.start()
    assert link.state == "down"
    with pytest.raises(StoreUnavailable, match="not a database"):
        await database.run(put("a"))
    with pytest.raises(sqlite3.DatabaseError):
        await database.ping()
    path.unlink()
    await database.ping()
    link.worked()
    await database.run(put("a"))
    await database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder))
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted")
    try:
        yield folder
    finally:  # lazily: a test that failed may have left files open
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


@pytest.mark.anyio
async def test_a_full_disk_is_down_for_writes_until_there_is_room(
    small_disk: Path, clock: FakeClock
) -> None:
    link = Link("database", clock)
    database = SqliteDatabase(small_disk / "routeiq.db", link=link, clock=clock)
    await database.start()
    await database.run(put("before"))
    with pytest.raises(StoreUnavailable, match=r"full|I/O"):
        await database.run(many_documents)
    assert link.state == "down"
    with pytest.raises(StoreUnavailable):
        await database.run(put("after"))
    assert await documents(database) == 1  # reading goes on
    assert link.state == "down"
    subprocess.run(("mount", "-o", "remount,size=8m", str(small_disk)), check=True)
    await database.ping()
    link.worked()
    await database.run(many_documents)
    assert await documents(database) == 201
    assert await database.run(lambda s: s.row("PRAGMA integrity_check")) == ("ok",)
    await database.close()


@pytest.mark.anyio
async def test_while_writing_fails_a_ping_writes(database: SqliteDatabase) -> None:
    pages = await database.run(lambda session: session.rows("PRAGMA page_count"))
    await database.run(lambda s: s.rows(f"PRAGMA max_page_count = {pages[0][0]}"))
    with pytest.raises(StoreUnavailable, match="full"):
        await database.run(many_documents)
    assert await documents(database) == 0
    with pytest.raises(StoreUnavailable):
        await database.run(put("a"))
    await database.ping()  # on a new connection, which has no such limit
    database._link.worked()
    await database.run(many_documents)


@pytest.mark.anyio
async def test_a_cancelled_caller_leaves_whole_transactions(database: SqliteDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        session.count(PUT, {"name": "a"})
        begun.set()
        assert go_on.wait(10)
        session.count(PUT, {"name": "b"})

    running = asyncio.create_task(database.run(slow))
    await asyncio.to_thread(begun.wait, 10)
    queued = asyncio.create_task(database.run(put("c")))
    await asyncio.sleep(0)
    running.cancel()
    queued.cancel()
    await asyncio.gather(running, queued, return_exceptions=True)
    go_on.set()
    await database.run(put("d"))
    names = await database.run(lambda s: s.rows("SELECT name FROM routeiq_documents"), write=False)
    assert sorted(names) == [("a",), ("b",), ("d",)]


@pytest.mark.anyio
async def test_a_caller_waits_no_longer_than_the_time_out(path: Path) -> None:
    database = opened(path, timeout_s=0.05)
    await database.start()
    go_on = threading.Event()
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
        await database.run(lambda _: go_on.wait(10))
    go_on.set()
    await database.close()


@pytest.mark.anyio
async def test_announcements_are_rows_for_a_minute(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    events = "SELECT id, topic, payload FROM routeiq_events ORDER BY id"
    await database.run(lambda session: session.notify("keys", "{}"))
    clock.advance(30)
    await database.run(lambda session: session.notify("control", "[1]"))
    rows = await database.run(lambda session: session.rows(events), write=False)
    assert rows == [(1, "keys", "{}"), (2, "control", "[1]")]
    clock.advance(61)
    await database.run(lambda session: session.notify("keys", "{}"))
    rows = await database.run(lambda session: session.rows(events), write=False)
    assert rows == [(3, "keys", "{}")]


@pytest.mark.anyio
async def test_an_announcement_is_undone_with_its_transaction(database: SqliteDatabase) -> None:
    def work(session: Session) -> None:
        session.notify("keys", "{}")
        raise LookupError

    with pytest.raises(LookupError):
        await database.run(work)
    assert await database.run(lambda s: s.rows("SELECT * FROM routeiq_events")) == []


@pytest.mark.anyio
async def test_workers_that_race_migrate_once(path: Path) -> None:
    clock = SystemClock()
    databases = [
        SqliteDatabase(path, link=Link("database", clock), clock=clock, timeout_s=20)
        for _ in range(6)
    ]
    await asyncio.gather(*(database.start() for database in databases))
    await asyncio.gather(
        *(database.run(put(f"{number}")) for number, database in enumerate(databases))
    )
    assert await documents(databases[0]) == 6
    await asyncio.gather(*(database.close() for database in databases))


@pytest.mark.anyio
async def test_a_newer_database_is_refused(path: Path, clock: FakeClock) -> None:
    first = opened(path, clock)
    await first.run(
        lambda s: s.count("INSERT INTO routeiq_migrations VALUES (9999, 'later', 'x', 0, 'done')")
    )
    await first.close()
    database = opened(path, clock)
    with pytest.raises(StoreUnavailable, match="used by a newer one"):
        await database.run(put("a"))
    await database.close()


@pytest.mark.anyio
async def test_a_closed_database_is_unavailable(path: Path) -> None:
    database = opened(path)
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.run(put("a"))
    await database.close()


def test_a_command_needs_no_event_loop(path: Path) -> None:
    before = threading.active_count()
    database = opened(path)
    database.run_sync(put("a"))
    assert database.run_sync(lambda session: session.row(COUNT), write=False) == (1,)
    database.close_sync()
    assert threading.active_count() == before
