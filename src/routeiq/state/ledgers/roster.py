"""The workers of all hosts."""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.state.database import Database, Row, Session
from routeiq.stores import Worker

COLUMNS = "id, host, pid, started_at, seen_at, generation, directory, config, version"
BEAT = (
    f"INSERT INTO routeiq_workers ({COLUMNS})"  # noqa: S608
    " VALUES (:id, :host, :pid, :now, :now, :generation, :directory, :config, :version)"
    " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, generation = excluded.generation,"
    " directory = excluded.directory, config = excluded.config, version = excluded.version"
    " RETURNING started_at"
)
SEEN = f"SELECT {COLUMNS} FROM routeiq_workers WHERE seen_at >= :since ORDER BY id"  # noqa: S608
FORGET = "DELETE FROM routeiq_workers WHERE seen_at < :before"
FORGET_AFTER_S = 3600.0
"""Rows of workers that were killed; a new worker deletes them with its first beat."""


class SqlRoster:
    """`routeiq.stores.Roster`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, worker: Worker) -> None:
        """Say that this worker lives and what it has applied. Both times are the database's."""

        def work(session: Session) -> None:
            now = session.now()
            row = session.row(
                BEAT,
                {
                    "id": worker.id,
                    "host": worker.host,
                    "pid": worker.pid,
                    "now": now,
                    "generation": worker.generation,
                    "directory": worker.directory,
                    "config": worker.config,
                    "version": worker.version,
                },
            )
            if row is not None and row[0] == now:
                session.count(FORGET, {"before": now - FORGET_AFTER_S})

        await self._database.run(work)

    async def all(self, *, within_s: float = 30.0) -> Sequence[Worker]:
        """Those that were seen lately."""

        def work(session: Session) -> list[Row]:
            return session.rows(SEEN, {"since": session.now() - within_s})

        return [_worker(row) for row in await self._database.run(work, write=False)]

    async def leave(self, id: str) -> None:
        """A worker ended in order."""
        delete = "DELETE FROM routeiq_workers WHERE id = :id"
        await self._database.run(lambda session: session.count(delete, {"id": id}))


def _worker(row: Row) -> Worker:
    return Worker(
        id=row[0],
        host=row[1],
        pid=row[2],
        started_at=row[3],
        seen_at=row[4],
        generation=row[5],
        directory=row[6],
        config=row[7],
        version=row[8],
    )
