"""SQLite: one file, several worker processes, nothing to install.

WAL, so readers never wait for the writer; one thread and connection writes, another reads. A commit is on the disk
before it is acknowledged (`synchronous=FULL`), unless the database is opened as not durable.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock

from .database import Dialect, Row, Session
from .link import Link
from .migrate import SchemaMismatch, migrate_sqlite
from .sqlite_file import make_private, require_folder
from .threaded import DatabaseFailed, ThreadedDatabase, TryAgain

T = TypeVar("T")
NOBODY: Mapping[str, Any] = {}
EVENTS_KEPT_S = 60.0
LOOK_S = 0.002
"""How often it is looked whether the write lock is free."""
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
BROKEN = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
CANNOT_WRITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}


class SqliteSession:
    """One transaction; see `routeiq.state.database.Session`."""

    __slots__ = ("_connection", "_database")
    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, database: SqliteDatabase) -> None:
        self._connection = connection
        self._database = database

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; its rows."""
        return self._connection.execute(sql, parameters or NOBODY).fetchall()

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """Run a statement; its first row."""
        found = self._connection.execute(sql, parameters or NOBODY).fetchall()
        return found[0] if found else None

    def many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once per mapping."""
        self._connection.executemany(sql, parameters)

    def count(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement; how many rows it changed."""
        return self._connection.execute(sql, parameters or NOBODY).rowcount

    def now(self) -> float:
        """The host's clock: everybody who has the file is on this host."""
        return self._database.wall()

    def notify(self, topic: str, payload: str) -> None:
        """A row in `routeiq_events`, which listeners of other processes read."""
        now = self.now()
        self.count(
            "INSERT INTO routeiq_events (time, topic, payload) VALUES (:time, :topic, :payload)",
            {"time": now, "topic": topic, "payload": payload},
        )
        if self._database.prune_due(now):
            self.count("DELETE FROM routeiq_events WHERE time < :old", {"old": now - EVENTS_KEPT_S})


class SqliteDatabase(ThreadedDatabase):
    """One file. The schema is brought up to date as it is opened; workers that race do it once.

    While only writing fails (the disk is full, the file system read-only) reads go on; the link is down, and
    `ping` finds out by writing when there is room again.
    """

    dialect: Dialect = "sqlite"

    def __init__(
        self,
        path: str | Path,
        *,
        link: Link,
        clock: Clock,
        timeout_s: float = 5.0,
        durable: bool = True,
    ) -> None:
        super().__init__(link=link, clock=clock, timeout_s=timeout_s)
        self._path = Path(path)
        self._durable = durable
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="routeiq-sqlite-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="routeiq-sqlite-read")
        self._connections: dict[bool, sqlite3.Connection] = {}
        self._cannot_write = False
        self._next_prune = 0.0

    async def ping(self) -> None:
        """Read something; write something, if the last write failed."""
        if self._cannot_write:
            try:
                await self._wait(self._submit(_write_something, True))
            except DatabaseFailed as failed:
                raise failed.reason from None
            self._cannot_write = False
        else:
            await super().ping()

    def _end(self) -> None:
        for write, lane in ((False, self._reader), (True, self._writer)):
            lane.submit(self._drop, write).result()
            lane.shutdown()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._clock.wall()

    def prune_due(self, now: float) -> bool:
        """Whether old events should be deleted with this one: every so often, also if the clock went back."""
        if now < self._next_prune <= now + EVENTS_KEPT_S:
            return False
        self._next_prune = now + EVENTS_KEPT_S
        return True

    def _check_settings(self) -> None:
        require_folder(self._path)

    def _lane(self, write: bool) -> Executor:
        return self._writer if write else self._reader

    def _admit(self, write: bool) -> None:
        if write or not self._cannot_write:
            self._link.check()

    def _worked(self, write: bool) -> None:
        if write or not self._cannot_write:
            self._cannot_write = False
            self._link.worked()

    def _failed(self, failed: DatabaseFailed) -> StoreUnavailable:
        self._cannot_write = self._cannot_write or failed.writing
        return super()._failed(failed)

    def _attempt(self, work: Callable[[Session], T], write: bool) -> T:
        try:
            connection = self._connections.get(write) or self._open(write)
            return self._transaction(connection, work, write)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in BUSY:
                raise TryAgain(error) from error
            if code not in BROKEN or (code == sqlite3.SQLITE_READONLY and not write):
                raise  # the statement's fault
            self._drop(write)
            raise DatabaseFailed(error, writing=write and code in CANNOT_WRITE) from error
        except (OSError, SchemaMismatch) as error:
            if write in self._connections:
                raise  # the work's own: opening went well
            raise DatabaseFailed(error) from error

    def _transaction(
        self, connection: sqlite3.Connection, work: Callable[[Session], T], write: bool
    ) -> T:
        if write:
            self._lock(connection)
        else:
            connection.execute("BEGIN")
        try:
            result = work(SqliteSession(connection, self))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors have rolled back already
                connection.execute("ROLLBACK")
            raise
        return result

    def _lock(self, connection: sqlite3.Connection) -> None:
        """Have the write lock. SQLite itself waits up to 100 ms between two looks, so some wait for seconds."""
        for left in reversed(range(max(1, int(self._timeout_s / LOOK_S)))):
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in BUSY:
                    raise
                if not left:
                    raise DatabaseFailed(error, slow=True) from error
            time.sleep(LOOK_S * random.uniform(0.1, 1.9))

    def _open(self, write: bool) -> sqlite3.Connection:
        make_private(self._path)
        connection = sqlite3.connect(
            self._path,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            self._prepare(connection)
            connection.execute("PRAGMA busy_timeout = 0")
            if not write:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        self._connections[write] = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise OSError(f"{self._path}: this file system cannot have a write-ahead log ({mode})")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        migrate_sqlite(connection, self._clock)

    def _drop(self, write: bool) -> None:
        connection = self._connections.pop(write, None)
        if connection is not None:
            connection.close()


def _write_something(session: Session) -> None:
    session.count("UPDATE routeiq_generations SET value = value WHERE name = 'keys'")
