"""What the SQL stores are written against: one dialect layer over SQLite and PostgreSQL.

A store's SQL is in the subset that both understand (`ON CONFLICT`, `RETURNING`), with `:name` parameters. Work is
plain blocking code that runs in one of the database's threads, inside one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgresql"]


class Session(Protocol):
    """One transaction, for the function that was given to `Database.run`."""

    @property
    def dialect(self) -> Dialect:
        """For the few statements that cannot be the same."""
        ...

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; its rows (`[]` where it returns none)."""
        ...

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """Run a statement; its first row."""
        ...

    def many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once per mapping."""
        ...

    def count(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement; how many rows it changed."""
        ...

    def now(self) -> float:
        """Seconds since the epoch by the database's clock: one clock for all hosts."""
        ...

    def notify(self, topic: str, payload: str) -> None:
        """Announce with this transaction's commit what `Events` listeners hear (`payload` is JSON)."""
        ...


class Database(Protocol):
    """SQLite in one file, or PostgreSQL."""

    @property
    def dialect(self) -> Dialect:
        """Which of the two."""
        ...

    async def run(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        """Run `work` in a thread, in one transaction (`BEGIN IMMEDIATE` on SQLite where it writes).

        A lock that could not be had and a serialisation failure are tried again, so `work` must have no effect
        but through its session. What `work` raises itself rolls back and is raised.

        Raises:
            StoreUnavailable: the database cannot be reached, is full, not migrated, or too slow.
        """
        ...
