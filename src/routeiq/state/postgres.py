"""PostgreSQL: psycopg's blocking connections in a few threads of each worker.

Writes are READ COMMITTED, so that many may add to one row without failing: compare and set in one statement, or
`SELECT ... FOR UPDATE` first. Reads see one snapshot. A parameter whose type cannot be guessed (`:x IS NULL`)
needs a `CAST(:x AS TEXT)`.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from routeiq.exceptions import ConfigError, Problem
from routeiq.ports import Clock

from .database import Dialect, Row, Session
from .link import Link
from .migrate import SchemaMismatch
from .statements import for_psycopg
from .threaded import DatabaseFailed, ThreadedDatabase, TryAgain

if TYPE_CHECKING:
    import psycopg

    from .postgres_connection import Connection

T = TypeVar("T")
logger = logging.getLogger("routeiq.state")
NOBODY: Mapping[str, Any] = {}
CHANNEL = "routeiq_events"
"""What listeners hear on it: `{"topic": ..., "payload": ...}`."""


class PostgresSession:
    """One transaction; see `routeiq.state.database.Session`."""

    __slots__ = ("_cursor", "_now")
    dialect: Dialect = "postgresql"

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor
        self._now: float | None = None

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; its rows."""
        cursor = self._cursor.execute(for_psycopg(sql), parameters or NOBODY)
        return [] if cursor.description is None else cursor.fetchall()

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """Run a statement; its first row."""
        cursor = self._cursor.execute(for_psycopg(sql), parameters or NOBODY)
        return None if cursor.description is None else cursor.fetchone()

    def many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once per mapping, in few round trips."""
        self._cursor.executemany(for_psycopg(sql), parameters)

    def count(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement; how many rows it changed."""
        return self._cursor.execute(for_psycopg(sql), parameters or NOBODY).rowcount

    def now(self) -> float:
        """The server's clock, asked once in a transaction."""
        if self._now is None:
            found = self.row("SELECT CAST(extract(epoch FROM clock_timestamp()) AS FLOAT8)")
            self._now = float(found[0]) if found else 0.0
        return self._now

    def notify(self, topic: str, payload: str) -> None:
        """`NOTIFY`, which the server delivers with the commit."""
        message = f'{{"topic":{json.dumps(topic)},"payload":{payload}}}'
        self.rows("SELECT pg_notify(:channel, :message)", {"channel": CHANNEL, "message": message})


class PostgresDatabase(ThreadedDatabase):
    """`pool_size` threads, at most as many connections; those that broke are never used again.

    The schema is checked whenever a connection is made: until `routeiq admin migrate` ran the database counts as
    unavailable, and then recovers by itself.
    """

    dialect: Dialect = "postgresql"

    def __init__(
        self,
        url: str,
        *,
        link: Link,
        clock: Clock,
        timeout_s: float = 5.0,
        pool_size: int = 4,
    ) -> None:
        super().__init__(link=link, clock=clock, timeout_s=timeout_s)
        self._driver = require_driver()
        self._settings = self._driver.settings_of(url, timeout_s)
        self._threads = ThreadPoolExecutor(pool_size, thread_name_prefix="routeiq-postgres")
        self._idle: deque[Connection] = deque()
        local = ""
        if (
            self._settings.pooled
        ):  # PgBouncer hands the connection on: settings end with the transaction
            local = f"; SET LOCAL statement_timeout = {self._settings.milliseconds}"
        self._begin = {
            True: f"BEGIN{local}".encode(),
            False: f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{local}".encode(),
        }

    def _end(self) -> None:
        self._threads.shutdown()
        self._close_idle()

    def _check_settings(self) -> None:
        """They were read by the constructor."""

    def _lane(self, write: bool) -> Executor:
        return self._threads

    def _attempt(self, work: Callable[[Session], T], write: bool) -> T:
        connection, cursor = self._begun(write)
        try:
            result = work(PostgresSession(cursor))
            cursor.execute(b"COMMIT", prepare=False)
            if cursor.statusmessage != "COMMIT":
                raise RuntimeError(
                    "the work went on after a statement had failed: nothing was written"
                )
        except self._driver.psycopg.Error as error:
            verdict = self._driver.verdict(error, writing=write)
            self._give_up(connection, keep=verdict != "lost")
            raise self._meaning(error, verdict) from None
        except BaseException:
            self._give_up(connection)
            raise
        self._idle.append(connection)
        return result

    def _begun(self, write: bool) -> tuple[Connection, psycopg.Cursor[Row]]:
        """A connection inside a transaction. One that died while idle is replaced: nothing was asked yet."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._begun_anew(write)
        try:
            return connection, self._start(connection, write)
        except self._driver.psycopg.Error:
            connection.close()
            self._close_idle()  # the others are as old
            return self._begun_anew(write)

    def _begun_anew(self, write: bool) -> tuple[Connection, psycopg.Cursor[Row]]:
        connection = None
        try:
            connection = self._driver.connect(self._settings, self._clock)
            self._driver.check_schema(connection)
            return connection, self._start(connection, write)
        except (self._driver.psycopg.Error, SchemaMismatch) as error:
            if connection is not None:
                connection.close()
            reason = error
            if not isinstance(error, SchemaMismatch):
                reason = self._driver.scrubbed(error, self._settings)
            raise DatabaseFailed(reason) from None

    def _start(self, connection: Connection, write: bool) -> psycopg.Cursor[Row]:
        return connection.cursor().execute(self._begin[write], prepare=False)

    def _give_up(self, connection: Connection, *, keep: bool = True) -> None:
        """Roll back. A connection that cannot is closed, and so are the idle ones: they are as old."""
        if keep:
            try:
                connection.execute(b"ROLLBACK", prepare=False)
                self._idle.append(connection)
                return
            except self._driver.psycopg.Error as error:
                logger.info("cannot roll back", extra={"error": type(error).__name__})
        connection.close()
        self._close_idle()

    def _meaning(self, error: psycopg.Error, verdict: str) -> Exception:
        if verdict == "theirs":
            return error
        reason = self._driver.scrubbed(error, self._settings)
        if verdict == "again":
            return TryAgain(reason)
        return DatabaseFailed(reason, slow=verdict == "slow")

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return


def require_driver() -> Any:
    """The module that needs psycopg.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from . import postgres_connection
    except ImportError as error:
        raise ConfigError(
            [
                Problem(
                    key="DATABASE_URL",
                    message=f"PostgreSQL needs psycopg, which cannot be imported ({error}).",
                    fix="Run `pip install 'routeiq-router[postgres]'`.",
                )
            ]
        ) from error
    return postgres_connection
