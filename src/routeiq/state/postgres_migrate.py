"""Migrating PostgreSQL: one process at a time, under an advisory lock; see `routeiq.state.migrate`.

It needs a connection of its own to the server: through a PgBouncer that pools transactions the lock would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock

from .database import Row
from .migrate import DONE, RECORD, RUNNING, TABLE, Migration, load, pending
from .postgres_connection import Connection, applied, connect, scrubbed, settings_of
from .statements import for_psycopg

LOCK = 0x726F757465697101  # "routeiq" and a number: nobody else's
CONNECT_S = 10.0


def pending_postgres(
    url: str, clock: Clock, *, known: Sequence[Migration] | None = None, again: bool = False
) -> list[Migration]:
    """What `migrate_postgres` would apply. Writes nothing.

    Raises:
        SchemaMismatch: the database is newer, dirty, or was migrated with another text.
    """
    with _connected(url, clock) as connection:
        return pending(_known(known), applied(connection) or (), again=again)


def migrate_postgres(
    url: str, clock: Clock, *, known: Sequence[Migration] | None = None, again: bool = False
) -> list[Migration]:
    """Apply what is pending; which that was. Of processes that race one does it, the others wait.

    Raises:
        SchemaMismatch: the database is newer, dirty, or was migrated with another text.
    """
    with _connected(url, clock) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            connection.execute(TABLE)
            left = pending(_known(known), applied(connection) or (), again=again)
            for migration in left:
                _apply(connection, migration, clock)
        finally:
            if not connection.broken:
                connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return left


@contextmanager
def _connected(url: str, clock: Clock) -> Iterator[Connection]:
    settings = settings_of(url, CONNECT_S)
    try:
        with connect(settings, clock, bounded=False) as connection:
            yield connection
    except psycopg.Error as error:
        raise StoreUnavailable(f"PostgreSQL: {scrubbed(error, settings)}") from None


def _known(known: Sequence[Migration] | None) -> Sequence[Migration]:
    return load("postgresql") if known is None else known


def _apply(connection: psycopg.Connection[Row], migration: Migration, clock: Clock) -> None:
    if migration.transactional:
        with connection.transaction():
            connection.execute(migration.script.encode())
            _record(connection, migration, clock, DONE)
        return
    _record(connection, migration, clock, RUNNING)
    for statement in migration.script.split(";\n"):
        if statement.strip():
            connection.execute(statement.encode())
    _record(connection, migration, clock, DONE)


def _record(
    connection: psycopg.Connection[Row], migration: Migration, clock: Clock, state: str
) -> None:
    connection.execute(for_psycopg(RECORD), migration.row(clock.wall(), state))
