"""PostgreSQL's partitions of the decision log: one a day (UTC), so that old days go without a trace of work.

A day's partition is made ahead. Records whose day has none are in the default partition; they are moved when their
day is made.
"""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime

from routeiq.state.database import Session

logger = logging.getLogger("routeiq.state")
DAY_S = 86_400
AHEAD = 2
"""Days that are made before they begin."""
_TABLE = "routeiq_decisions"
_DEFAULT = "routeiq_decisions_default"
_PREFIX = "routeiq_decisions_p"
_LOCK = 5_273_003
"""Key of the advisory lock under which partitions change."""
_COUNTED = 100_000
"""Partitions of more rows are reported by the planner's estimate: to count them takes seconds."""


def day_of(time_s: float) -> int:
    """The number of the UTC day."""
    return math.floor(time_s / DAY_S)


def days_ahead(now_s: float) -> range:
    """Today and the next days."""
    today = day_of(now_s)
    return range(today, today + AHEAD + 1)


def name_of(day: int) -> str:
    """The table that has this day's records."""
    return _PREFIX + datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y%m%d")


def day_from(name: str) -> int | None:
    """The day that a partition is for, `None` where the table is none of ours."""
    digits = name.removeprefix(_PREFIX)
    if digits == name or len(digits) != len("20260101") or not digits.isdigit():
        return None
    begin = datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC)
    return day_of(begin.timestamp())


def existing(session: Session) -> list[str]:
    """The partitions, oldest first; the default one is not among them."""
    rows = session.rows(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = CAST(:parent AS regclass) ORDER BY c.relname",
        {"parent": _TABLE},
    )
    return [name for (name,) in rows if day_from(name) is not None]


def make(session: Session, days: range | list[int]) -> list[str]:
    """Make what is missing of these days; the names of what was made."""
    known = existing(session)
    if all(name_of(day) in known for day in days):
        return []
    _lock(session)
    known = existing(session)
    made = [day for day in days if name_of(day) not in known]
    for day in made:
        _make(session, day)
    return [name_of(day) for day in made]


def _make(session: Session, day: int) -> None:
    name, begin, end = name_of(day), day * DAY_S, (day + 1) * DAY_S
    session.count(f"CREATE TABLE {name} (LIKE {_TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    session.count(
        f"WITH strays AS (DELETE FROM {_DEFAULT} WHERE time >= :begin AND time < :end RETURNING *) "  # noqa: S608
        f"INSERT INTO {name} SELECT * FROM strays",
        {"begin": begin, "end": end},
    )
    session.count(
        f"ALTER TABLE {_TABLE} ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})"
    )
    logger.info("partition made", extra={"partition": name})


def expired(session: Session, before_s: float) -> list[str]:
    """Partitions all of whose records are older than this time."""
    last = day_of(before_s)
    return [name for name in existing(session) if (day_from(name) or 0) < last]


def drop(session: Session, name: str) -> int:
    """Drop one partition; how many records it had (an estimate where they are many)."""
    _lock(session)
    if name not in existing(session):
        return 0
    found = session.row(
        "SELECT reltuples FROM pg_class WHERE oid = CAST(:name AS regclass)", {"name": name}
    )
    rows = 0 if found is None else int(found[0])
    if rows < _COUNTED:
        counted = session.row(f"SELECT count(*) FROM {name}")  # noqa: S608
        rows = 0 if counted is None else int(counted[0])
    session.count(f"DROP TABLE {name}")
    logger.info("partition dropped", extra={"partition": name, "records": rows})
    return rows


def _lock(session: Session) -> None:
    """One at a time; and never make all others wait for long behind somebody's long search."""
    session.rows("SET LOCAL lock_timeout = '2s'")
    session.rows("SELECT pg_advisory_xact_lock(:key)", {"key": _LOCK})
