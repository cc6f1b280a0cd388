"""`stores.Decisions` on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from routeiq.exceptions import StoreUnavailable
from routeiq.state.database import Database, Session
from routeiq.state.decisions import partitions
from routeiq.state.decisions.ledger import Rated
from routeiq.state.decisions.query import mark_sql, scans, search_sql
from routeiq.state.decisions.rows import (
    FEEDBACK,
    INSERT,
    clean,
    feedback_of,
    named,
    record_of,
    row_of,
)
from routeiq.types import JsonObject

logger = logging.getLogger("routeiq.state")
CHUNK = 1_000
"""Rows deleted in one transaction, so that writers never wait long."""
PAUSE_S = 0.02
"""Between two such transactions: SQLite has no queue, whoever asks first has the lock."""
GULP = 25
"""Rows given to the driver at once."""
SLICE = 20_000
"""Rows that one transaction of a search without an index reads."""
_IDS = 500
"""Ids asked for in one statement."""
_Piece = tuple[list[JsonObject], tuple[float, str] | None]


class SqlDecisions:
    """Records and feedback in the database; on PostgreSQL in one partition a day."""

    def __init__(self, db: Database, *, pause_s: float = PAUSE_S) -> None:
        self._db = db
        self._pause_s = pause_s
        self._days: set[int] = set()
        """Days that are known to have a partition, or to get none."""

    async def add(self, records: Sequence[JsonObject]) -> None:
        """Store a batch, all or nothing; a record whose `decision_id` is there already is skipped.

        Raises:
            StoreUnavailable: it is unknown whether the batch was stored; the same batch may be sent again.
            TypeError: a record cannot be encoded; nothing was stored.
            ValueError: the same.
        """
        if not records:
            return
        if self._db.dialect == "postgresql":
            await self._make_room({partitions.day_of(float(one["time"])) for one in records})
        await self._db.run(lambda session: _insert(session, records))

    async def get(self, decision_id: str) -> JsonObject | None:
        """One record, whole, with its feedback (a list, oldest first) under `feedback`."""

        def work(session: Session) -> JsonObject | None:
            row = session.row(
                "SELECT record FROM routeiq_decisions WHERE decision_id = :id LIMIT 1",
                {"id": clean(decision_id)},
            )
            if row is None:
                return None
            given = _feedback_on(session, [decision_id])
            return {**record_of(row[0]), "feedback": given.get(decision_id, [])}

        return await self._db.run(work, write=False)

    async def search(self, query: Mapping[str, Any], *, limit: int) -> Sequence[JsonObject]:
        """Records that match, newest first, each with its `feedback`.

        Beside what `stores.Decisions` says, `query` may have `requested`, `variant`, and `before_time`: the time
        of the record `before`, which then need not be there any more. A search that no index serves is done
        in pieces, so that it keeps the database from nobody.

        Raises:
            ValueError: a field that cannot be searched for.
        """
        wanted = {name: value for name, value in query.items() if value is not None}
        if "before" in wanted and "before_time" not in wanted:
            record = await self.get(wanted["before"])
            if record is None:
                return []
            wanted["before_time"] = record["time"]
        size = SLICE if scans(wanted) else None
        found: list[JsonObject] = []
        while True:
            piece = _search(wanted, limit - len(found), size)
            records, mark = await self._db.run(piece, write=False)
            found += records
            if mark is None or len(found) >= limit:
                return found
            wanted["before_time"], wanted["before"] = mark

    async def feedback(self, event: JsonObject) -> bool:
        """Keep feedback `{decision_id, score, label?, comment?, key, time}`; whether the record was there."""
        return (await self.rate(event)).found

    async def rate(self, event: JsonObject) -> Rated:
        """Keep feedback; what score it replaces."""
        return await self._db.run(lambda session: _rate(session, event))

    async def feedback_since(self, position: int, *, limit: int = 1000) -> Sequence[JsonObject]:
        """Feedback after a position, oldest first; each has its `position`."""

        def work(session: Session) -> list[JsonObject]:
            rows = session.rows(
                f"SELECT {FEEDBACK} FROM routeiq_feedback WHERE position > :position "  # noqa: S608
                "ORDER BY position LIMIT :limit",
                {"position": position, "limit": limit},
            )
            return [feedback_of(row) for row in rows]

        return await self._db.run(work, write=False)

    async def feedback_end(self) -> int:
        """The position of the last feedback."""

        def work(session: Session) -> int:
            row = session.row("SELECT last FROM routeiq_feedback_position WHERE id = 1")
            return 0 if row is None else int(row[0])

        return await self._db.run(work, write=False)

    async def prepare(self, now_s: float) -> None:
        """Make the partitions of today and the next days; nothing on SQLite."""
        if self._db.dialect == "postgresql":
            days = partitions.days_ahead(now_s)
            await self._db.run(lambda session: partitions.make(session, days))
            self._days.update(days)

    async def prune(self, before_s: float) -> int:
        """Delete records and feedback older than this time; how many records.

        On PostgreSQL whole days are dropped: a day's records stay until its last one is old enough.
        """
        count = 0
        if self._db.dialect == "postgresql":
            old = await self._db.run(lambda s: partitions.expired(s, before_s), write=False)
            for name in old:
                count += await self._db.run(lambda s, name=name: partitions.drop(s, name))  # type: ignore[misc]
            table, id = "routeiq_decisions_default", "decision_id"
        else:
            table, id = "routeiq_decisions", "decision_id"
        count += await self._delete(table, id, before_s)
        await self._delete("routeiq_feedback", "position", before_s)
        return count

    async def _delete(self, table: str, id: str, before_s: float) -> int:
        sql = (
            f"DELETE FROM {table} WHERE {id} IN "  # noqa: S608 - constants
            f"(SELECT {id} FROM {table} WHERE time < :before ORDER BY time LIMIT :chunk)"
        )
        parameters = {"before": before_s, "chunk": CHUNK}
        total = 0
        while True:
            count = await self._db.run(lambda session: session.count(sql, parameters))
            total += count
            if count < CHUNK:
                return total
            await asyncio.sleep(self._pause_s)

    async def _make_room(self, days: set[int]) -> None:
        """Make partitions that the retention job has not made; without them the default one takes the records."""
        new = days - self._days
        if not new:
            return

        def work(session: Session) -> None:
            near = partitions.days_ahead(session.now())
            partitions.make(session, sorted(new & set(near)))

        try:
            await self._db.run(work)
        except StoreUnavailable:
            raise
        except Exception as error:  # a role that may not create tables: records must not wait
            said = f"{type(error).__name__}: {error}"
            logger.warning("partition not made", extra={"error": said})
        self._days |= new


def _insert(session: Session, records: Sequence[JsonObject]) -> None:
    for start in range(0, len(records), GULP):
        session.many(INSERT, [row_of(one) for one in records[start : start + GULP]])
        time.sleep(0)  # by itself a thread keeps the interpreter from the event loop for 5 ms


def _search(query: Mapping[str, Any], limit: int, size: int | None) -> Callable[[Session], _Piece]:
    """One transaction: the matches among the newest `size` rows, and where these end; `None` reads all."""
    asked = dict(query)

    def work(session: Session) -> _Piece:
        end = None if size is None else session.row(*mark_sql(asked, size))
        mark = None if end is None else (float(end[0]), str(end[1]))
        rows = session.rows(*search_sql(asked, limit, mark))
        given = _feedback_on(session, [row[0] for row in rows])
        return [{**record_of(text), "feedback": given.get(id, [])} for id, text in rows], mark

    return work


def _rate(session: Session, event: JsonObject) -> Rated:
    id, key = clean(event["decision_id"]), clean(event["key"])
    there = session.row(
        "SELECT 1 FROM routeiq_decisions WHERE decision_id = :id LIMIT 1", {"id": id}
    )
    if there is None:
        return Rated(found=False)
    # The row's lock is held until the commit, so positions become visible in their order.
    taken = session.row(
        "UPDATE routeiq_feedback_position SET last = last + 1 WHERE id = 1 RETURNING last"
    )
    if taken is None:
        raise LookupError("routeiq_feedback_position is empty")
    before = session.row(
        "SELECT score FROM routeiq_feedback WHERE decision_id = :id ORDER BY position DESC LIMIT 1",
        {"id": id},
    )
    session.count(
        f"INSERT INTO routeiq_feedback ({FEEDBACK}) VALUES "  # noqa: S608
        "(:id, :key, :position, :time, :score, :label, :comment, :admin) "
        "ON CONFLICT (decision_id, key) DO UPDATE SET position = excluded.position, "
        "time = excluded.time, score = excluded.score, label = excluded.label, "
        "comment = excluded.comment, admin = excluded.admin",
        {
            "id": id,
            "key": key,
            "position": taken[0],
            "time": float(event["time"]),
            "score": float(event["score"]),
            "label": clean(event.get("label")),
            "comment": clean(event.get("comment")),
            "admin": int(event.get("admin") is True),
        },
    )
    return Rated(found=True, before=None if before is None else float(before[0]))


def _feedback_on(session: Session, ids: Sequence[str]) -> dict[str, list[JsonObject]]:
    """Feedback by decision, oldest first."""
    found: dict[str, list[JsonObject]] = {}
    for start in range(0, len(ids), _IDS):
        inside, parameters = named(ids[start : start + _IDS], "d")
        rows = session.rows(
            f"SELECT {FEEDBACK} FROM routeiq_feedback WHERE decision_id IN ({inside}) "  # noqa: S608
            "ORDER BY position",
            parameters,
        )
        for row in rows:
            found.setdefault(row[0], []).append(feedback_of(row))
    return found
