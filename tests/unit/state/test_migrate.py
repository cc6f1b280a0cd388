from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from routeiq.cli.admin import admin
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.migrate import (
    Migration,
    SchemaMismatch,
    applied_sqlite,
    load,
    migrate_sqlite,
    parse,
    pending,
    require_current,
)
from routeiq.state.postgres_migrate import migrate_postgres, pending_postgres
from tests.support.postgres import own_database

CLOCK = SystemClock()
NO_TRANSACTION = "-- routeiq: no transaction\n"


def known(*scripts: str) -> tuple[Migration, ...]:
    return parse({f"{i:04}_step.sql": text for i, text in enumerate(scripts, 1)}, "postgresql")


def table(name: str) -> str:
    return f"CREATE TABLE {name} (a INTEGER);"


@pytest.fixture
def url() -> Iterator[str]:
    with own_database() as made:
        yield made


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    yield made
    made.close()


def rows_of(migrations: Sequence[Migration], state: str = "done") -> list[tuple[object, ...]]:
    return [(m.version, m.name, m.checksum, state) for m in migrations]


def test_files_of_one_number_are_one_migration() -> None:
    texts = {
        "0002_b.postgresql.sql": "P;",
        "0002_b.sqlite.sql": "S;",
        "0002_b.sql": "B;",
        "0001_a.sql": "A;",
        "0003_c.postgresql.sql": "C;",
    }
    assert [(str(m), m.script) for m in parse(texts, "sqlite")] == [
        ("0001_a", "A;"),
        ("0002_b", "B;S;"),
    ]
    assert [m.script for m in parse(texts, "postgresql")] == ["A;", "B;P;", "C;"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1_a.sql",), "call it NNNN_name.sql"),
        (("0001_a.mysql.sql",), "call it NNNN_name.sql"),
        (("0001_a.sql", "0001_b.sql"), "the same number"),
    ],
)
def test_files_that_cannot_be_meant(names: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(dict.fromkeys(names, ""), "sqlite")


def test_both_dialects_have_the_same_steps() -> None:
    assert list(map(str, load("sqlite"))) == list(map(str, load("postgresql")))
    assert str(load("sqlite")[0]) == "0001_ledgers"


def test_what_is_left_to_do() -> None:
    steps = known("A;", "B;")
    assert pending(steps, []) == list(steps)
    assert pending(steps, rows_of(steps[:1])) == [steps[1]]
    assert pending(steps, rows_of(steps)) == []
    require_current(steps, rows_of(steps))
    with pytest.raises(SchemaMismatch, match=r"lacks 0002_step: run `routeiq admin migrate`"):
        require_current(steps, rows_of(steps[:1]))
    with pytest.raises(SchemaMismatch, match=r"no tables yet: run `routeiq admin migrate`"):
        require_current(steps, None)


def test_states_that_must_not_be_written_to() -> None:
    steps = known("A;", "B;")
    with pytest.raises(SchemaMismatch, match=r"0002_step, which .* newer one"):
        pending(steps[:1], rows_of(steps))
    with pytest.raises(SchemaMismatch, match=r"0001_step began and did not finish.*--again"):
        pending(steps, rows_of(steps[:1], "running"))
    assert pending(steps, rows_of(steps[:1], "running"), again=True) == list(steps)
    with pytest.raises(SchemaMismatch, match="0001_step is not the one that was applied"):
        pending(known("other;"), rows_of(steps[:1]))


def test_sqlite_is_migrated_step_by_step(connection: sqlite3.Connection) -> None:
    steps = known(table("a"), "-- a ; comment\n" + table("b") + "INSERT INTO b VALUES (';');\n")
    assert migrate_sqlite(connection, CLOCK, known=steps[:1]) == [steps[0]]
    assert migrate_sqlite(connection, CLOCK, known=steps) == [steps[1]]
    assert migrate_sqlite(connection, CLOCK, known=steps) == []
    assert connection.execute("SELECT * FROM b").fetchall() == [(";",)]


def test_a_failing_step_leaves_sqlite_as_it_was(connection: sqlite3.Connection) -> None:
    steps = known(table("a"), table("b") + "NONSENSE;")
    with pytest.raises(sqlite3.OperationalError, match="NONSENSE"):
        migrate_sqlite(connection, CLOCK, known=steps)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert not connection.in_transaction


def raced(count: int, migrate: Callable[[], Sequence[Migration]]) -> list[Sequence[Migration]]:
    together = threading.Barrier(count)

    def one() -> Sequence[Migration]:
        together.wait(10)
        return migrate()

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one) for _ in range(count)]
        return [future.result() for future in futures]


def test_of_racing_sqlite_migrators_one_migrates(tmp_path: Path) -> None:
    def migrate() -> Sequence[Migration]:
        connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, timeout=10)
        try:
            return migrate_sqlite(connection, CLOCK)
        finally:
            connection.close()

    done = raced(4, migrate)
    assert sorted(map(len, done)) == [0, 0, 0, len(load("sqlite"))]


def test_of_racing_postgres_migrators_one_migrates(url: str) -> None:
    done = raced(4, lambda: migrate_postgres(url, CLOCK))
    assert sorted(map(len, done)) == [0, 0, 0, len(load("postgresql"))]
    assert pending_postgres(url, CLOCK) == []


def test_a_failing_step_leaves_postgres_at_the_one_before(url: str) -> None:
    steps = known(table("a"), table("b") + "NONSENSE;")
    with pytest.raises(StoreUnavailable, match="NONSENSE"):
        migrate_postgres(url, CLOCK, known=steps)
    assert pending_postgres(url, CLOCK, known=steps) == [steps[1]]  # and not dirty
    mended = known(table("a"), table("b"))
    assert migrate_postgres(url, CLOCK, known=mended) == [mended[1]]


def test_an_interrupted_step_without_transaction_is_dirty(url: str) -> None:
    half = f"{NO_TRANSACTION}CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON a (a);\n"
    broken = known(table("a"), half + "SELECT 1/0;\n")
    with pytest.raises(StoreUnavailable, match="division by zero"):
        migrate_postgres(url, CLOCK, known=broken)
    for look in (pending_postgres, migrate_postgres):
        with pytest.raises(SchemaMismatch, match="0002_step began and did not finish"):
            look(url, CLOCK, known=broken)
    mended = known(table("a"), half)
    assert migrate_postgres(url, CLOCK, known=mended, again=True) == [mended[1]]
    assert migrate_postgres(url, CLOCK, known=mended) == []
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1 FROM pg_indexes WHERE indexname = 'i'").fetchall()


def test_a_newer_postgres_is_refused(url: str) -> None:
    steps = known(table("a"), table("b"))
    migrate_postgres(url, CLOCK, known=steps)
    with pytest.raises(SchemaMismatch, match="newer one"):
        migrate_postgres(url, CLOCK, known=steps[:1])


def test_the_command_migrates_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    arguments = ("migrate", "--database-url", f"sqlite:///{path}")
    checked = CliRunner().invoke(admin, [*arguments, "--check"])
    assert (checked.exit_code, checked.output.splitlines()[0]) == (1, "pending 0001_ledgers")
    assert not path.exists()
    applied = CliRunner().invoke(admin, arguments)
    assert (applied.exit_code, applied.output.splitlines()[0]) == (0, "applied 0001_ledgers")
    assert path.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(admin, [*arguments, "--check"])
    assert (again.exit_code, again.output) == (0, "the schema is up to date\n")
    connection = sqlite3.connect(path)
    assert len(applied_sqlite(connection)) == len(load("sqlite"))
    connection.close()


def test_the_command_migrates_what_database_url_names(url: str) -> None:
    environment = {"DATABASE_URL": url}
    checked = CliRunner(env=environment).invoke(admin, ["migrate", "--check"])
    assert (checked.exit_code, checked.output.splitlines()[0]) == (1, "pending 0001_ledgers")
    applied = CliRunner(env=environment).invoke(admin, ["migrate"])
    assert (applied.exit_code, applied.output.splitlines()[0]) == (0, "applied 0001_ledgers")
    again = CliRunner(env=environment).invoke(admin, ["migrate"])
    assert (again.exit_code, again.output) == (0, "the schema is up to date\n")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    result = CliRunner().invoke(admin, ["migrate", "--database-url", f"sqlite:///{folder}/x.db"])
    assert isinstance(result.exception, ConfigError)
    result = CliRunner().invoke(admin, ["migrate", "--database-url", "mysql://u:hidden@h/d"])
    assert isinstance(result.exception, ConfigError)
    assert "neither PostgreSQL nor SQLite" in str(result.exception)
    assert "hidden" not in str(result.exception)
    nobody = "postgresql://u:hidden@127.0.0.1:1/d"
    result = CliRunner().invoke(admin, ["migrate", "--database-url", nobody])
    assert isinstance(result.exception, StoreUnavailable)
    assert "hidden" not in str(result.exception)
    assert "refused" in str(result.exception)
