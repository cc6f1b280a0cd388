"""The file of an SQLite database: its URL, its mode, and its schema for `routeiq admin migrate`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routeiq.exceptions import ConfigError, Problem, StoreUnavailable
from routeiq.ports import Clock

from .migrate import Migration, applied_sqlite, load, migrate_sqlite, pending

PATIENCE_S = 30.0


def require_folder(path: Path) -> None:
    """Raise ConfigError where the file could not be made."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(
            [
                Problem(
                    key="DATABASE_URL",
                    message=f"the folder {folder} does not exist, so {path.name} cannot be made in it.",
                    fix="Make the folder, or name another.",
                )
            ]
        )


def make_private(path: Path) -> None:
    """Make the file, so that nobody else may read it; SQLite gives its other files the same mode.

    One that is there is not opened: closing any descriptor of a file takes all locks on it from the process, those
    of SQLite too, which then reports I/O errors or worse. For the same reason what is made here stays open.
    """
    try:
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(f"{path} cannot be read and written") from None


def pending_file(path: Path, *, again: bool = False) -> list[Migration]:
    """What `migrate_file` would apply. Writes nothing.

    Raises:
        SchemaMismatch: the database is newer, dirty, or was migrated with another text.
    """
    require_folder(path)
    if not path.exists():
        return list(load("sqlite"))
    with _connected(path) as connection:
        return pending(load("sqlite"), applied_sqlite(connection), again=again)


def migrate_file(path: Path, clock: Clock, *, again: bool = False) -> list[Migration]:
    """Apply what is pending; which that was.

    Raises:
        SchemaMismatch: the database is newer, dirty, or was migrated with another text.
    """
    require_folder(path)
    with _connected(path) as connection:
        return migrate_sqlite(connection, clock, again=again)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        make_private(path)
        connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
