"""The schema: numbered SQL files, applied in order, once, by one process at a time.

`migrations/NNNN_name.sql` is for both dialects, `NNNN_name.<dialect>.sql` for one; files of one number are one
migration, the common part first. Each is one transaction with the row that says so in `routeiq_migrations`. A
PostgreSQL file whose first line is `-- routeiq: no transaction` runs outside of one (`CREATE INDEX CONCURRENTLY`);
if that is interrupted the database is *dirty*, which is detected. Such a file must be safe to run twice.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.values import value

from .database import Dialect, Row

FILE = re.compile(
    r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+?)(\.(?P<dialect>sqlite|postgresql))?\.sql"
)
NO_TRANSACTION = "-- routeiq: no transaction"
TABLE = """
CREATE TABLE IF NOT EXISTS routeiq_migrations (
  version BIGINT PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  applied_at DOUBLE PRECISION NOT NULL,
  state TEXT NOT NULL
)
"""
APPLIED = "SELECT version, name, checksum, state FROM routeiq_migrations ORDER BY version"
RECORD = (
    "INSERT INTO routeiq_migrations (version, name, checksum, applied_at, state)"
    " VALUES (:version, :name, :checksum, :applied_at, :state)"
    " ON CONFLICT (version) DO UPDATE SET checksum = excluded.checksum,"
    " applied_at = excluded.applied_at, state = excluded.state"
)
DONE = "done"
RUNNING = "running"


class SchemaMismatch(StoreUnavailable):
    """The database's schema is not the one that this version of RouteIQ needs; says what to do."""


@value
class Migration:
    """One step of the schema."""

    version: int
    name: str
    script: str
    checksum: str
    transactional: bool = True

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"

    def row(self, applied_at: float, state: str) -> dict[str, object]:
        """The parameters of `RECORD`."""
        return {
            "version": self.version,
            "name": self.name,
            "checksum": self.checksum,
            "applied_at": applied_at,
            "state": state,
        }


@cache
def load(dialect: Dialect) -> tuple[Migration, ...]:
    """The migrations that came with this version, in order."""
    folder = files("routeiq.state") / "migrations"
    texts = {
        entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".sql")
    }
    return parse(texts, dialect)


def parse(texts: Mapping[str, str], dialect: Dialect) -> tuple[Migration, ...]:
    """Migrations from file names and contents."""
    parts: dict[tuple[int, str], str] = {}
    for file in sorted(texts, key=lambda name: name.count(".")):  # the common part has one dot
        matched = FILE.fullmatch(file)
        if matched is None:
            raise ValueError(f"migration {file}: call it NNNN_name.sql or NNNN_name.<dialect>.sql")
        if matched["dialect"] in (None, dialect):
            which = (int(matched["version"]), matched["name"])
            parts[which] = parts.get(which, "") + texts[file]
    if len({version for version, _ in parts}) < len(parts):
        raise ValueError(f"two migrations have the same number: {sorted(parts)}")
    return tuple(
        Migration(
            version=version,
            name=name,
            script=script,
            checksum=hashlib.sha256(script.encode()).hexdigest()[:16],
            transactional=not script.startswith(NO_TRANSACTION),
        )
        for (version, name), script in sorted(parts.items())
    )


def pending(
    known: Sequence[Migration], applied: Sequence[Row], *, again: bool = False
) -> list[Migration]:
    """What is left to do. `again`: a migration that did not finish is run once more.

    Raises:
        SchemaMismatch: the database is newer, dirty, or was migrated with another text.
    """
    ours = {migration.version: migration for migration in known}
    done = set()
    for version, name, checksum, state in applied:
        title = f"{version:04d}_{name}"
        if version not in ours:
            raise SchemaMismatch(
                f"the database has migration {title}, which this version of RouteIQ does not know: it was "
                "used by a newer one. Install that version again, or restore the database of this one"
            )
        if state != DONE:
            if again:
                continue
            raise SchemaMismatch(
                f"migration {title} began and did not finish. See what went wrong, then run "
                "`routeiq admin migrate --again`, which runs it once more"
            )
        if checksum != ours[version].checksum:
            raise SchemaMismatch(
                f"migration {title} is not the one that was applied to this database (checksum {checksum}, "
                f"now {ours[version].checksum}): the installation was changed. Reinstall RouteIQ"
            )
        done.add(version)
    return [migration for migration in known if migration.version not in done]


def require_current(known: Sequence[Migration], applied: Sequence[Row] | None) -> None:
    """Raise SchemaMismatch unless everything is applied (`None`: there is no schema at all)."""
    left = pending(known, applied or ())
    if left:
        how = "has no tables yet" if not applied else f"lacks {', '.join(map(str, left))}"
        raise SchemaMismatch(f"the database {how}: run `routeiq admin migrate`")


def migrate_sqlite(
    connection: sqlite3.Connection,
    clock: Clock,
    *,
    known: Sequence[Migration] | None = None,
    again: bool = False,
) -> list[Migration]:
    """Apply what is pending in one transaction; which that was. Of processes that race one does it.

    `connection` is in autocommit mode (`isolation_level=None`).

    Raises:
        SchemaMismatch: the database is newer, or was migrated with another text.
    """
    known = load("sqlite") if known is None else known
    if not pending(known, applied_sqlite(connection), again=again):
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(TABLE)
        left = pending(known, applied_sqlite(connection), again=again)
        for migration in left:
            for statement in _statements(migration.script):
                connection.execute(statement)
            connection.execute(RECORD, migration.row(clock.wall(), DONE))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return left


def applied_sqlite(connection: sqlite3.Connection) -> list[Row]:
    """What was applied; nothing where the table is not there."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'routeiq_migrations'"
    if connection.execute(there).fetchone() is None:
        return []
    return connection.execute(APPLIED).fetchall()


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would commit what is open."""
    gathered = ""
    for piece in re.split(r"(?<=;)", script):
        gathered += piece
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""
