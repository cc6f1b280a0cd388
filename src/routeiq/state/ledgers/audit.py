"""Who changed what and when."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from routeiq.state.database import Database, Row, Session
from routeiq.stores import Change
from routeiq.types import JsonObject

INSERT = (
    "INSERT INTO routeiq_audit (time, actor, action, target, details, request_id)"
    " VALUES (:time, :actor, :action, :target, :details, :request_id)"
)
LATEST = (
    "SELECT id, time, actor, action, target, details, request_id FROM routeiq_audit"
    " WHERE id < :before ORDER BY id DESC LIMIT :limit"
)
LAST = 2**63 - 1


def as_text(body: JsonObject | None) -> str | None:
    """JSON for a column."""
    return None if body is None else orjson.dumps(body).decode()


def as_json(text: str | None) -> JsonObject | None:
    """What `as_text` wrote."""
    return None if text is None else orjson.loads(text)


def record(session: Session, change: Change) -> None:
    """Write the row in the transaction of the change itself."""
    session.count(
        INSERT,
        {
            "time": session.now(),
            "actor": change.actor,
            "action": change.action,
            "target": change.target,
            "details": as_text(change.details),
            "request_id": change.request_id,
        },
    )


class SqlAudit:
    """`routeiq.stores.Audit`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, change: Change) -> None:
        """Add a row for a change that no store of ours made."""
        await self._database.run(lambda session: record(session, change))

    async def latest(self, *, limit: int = 100, before: int | None = None) -> Sequence[JsonObject]:
        """Rows, newest first, ids below `before`."""
        parameters = {"before": LAST if before is None else before, "limit": limit}
        rows = await self._database.run(
            lambda session: session.rows(LATEST, parameters), write=False
        )
        return [_as_object(row) for row in rows]

    async def prune(self, before_s: float) -> int:
        """Delete what is older than this time; how many."""
        delete = "DELETE FROM routeiq_audit WHERE time < :before"
        return await self._database.run(lambda session: session.count(delete, {"before": before_s}))


def _as_object(row: Row) -> JsonObject:
    return {
        "id": row[0],
        "time": row[1],
        "actor": row[2],
        "action": row[3],
        "target": row[4],
        "details": as_json(row[5]),
        "request_id": row[6],
    }
