"""`Limits` in SQL: the buckets of a request are read and written under one lock per tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from routeiq.state.buckets import Book, Cell, CellKey
from routeiq.state.database import Database, Session
from routeiq.stores import Ask, BucketKind, Delta, Reservation

from . import batches

CHUNK = 100
"""Buckets in one statement."""
GRACE_S = 60.0
"""Expired rows stay this long, so that a clock that jumps does not delete what counts."""
LOCK = (
    "SELECT CAST(pg_advisory_xact_lock(hashtextextended(:tenant, 7)) AS TEXT),"
    " CAST(extract(epoch FROM clock_timestamp()) AS FLOAT8)"
)
"""The columns are evaluated in their order: the time is that of having the lock."""
LOCK_QUICKLY = LOCK + ", set_config('synchronous_commit', 'off', true)"
"""And the transaction will not wait for the disk."""
COLUMNS = "bucket, worker, kind, taken, number, previous, window_s, expires_at"
KEEP_SLOTS = (
    "UPDATE routeiq_limits SET expires_at = :until"
    " WHERE tenant = :tenant AND worker = :worker AND kind = 'slots' AND expires_at > :now"
)
PRUNE = "DELETE FROM routeiq_limits WHERE expires_at > 0 AND expires_at < :old"


class SqlLimits:
    """Exact: all that happens to one tenant happens one after the other.

    SQLite has one writer; PostgreSQL takes an advisory lock per tenant, so that requests which name the same
    buckets in different orders cannot block each other for ever. There a reservation does not wait for the disk; a
    settlement does, and with it every reservation before it. So a server that crashes loses the reservations
    since the last settlement at most.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        """Take from all buckets or from none."""

        def work(session: Session) -> Reservation:
            book = _open(session, tenant, [ask.bucket for ask in asks], wait_for_disk=False)
            reservation = book.reserve(worker, asks)
            _save(session, tenant, book)
            return reservation

        return await self._database.run(work)

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        """Settle a batch, once."""

        def work(session: Session) -> None:
            book = _open(session, tenant, [delta.bucket for delta in deltas])
            if batches.is_new(session, f"limits:{tenant}", worker, seq, book.now):
                book.adjust(worker, deltas)
                _save(session, tenant, book)

        await self._database.run(work)

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        """This worker's slots, those that are still taken, stay so for `ttl_s`."""

        def work(session: Session) -> None:
            now = _lock(session, tenant, wait_for_disk=False)
            session.count(
                KEEP_SLOTS, {"tenant": tenant, "worker": worker, "now": now, "until": now + ttl_s}
            )

        await self._database.run(work)

    async def usage(self, tenant: str, buckets: Mapping[str, BucketKind]) -> Mapping[str, int]:
        """What is taken in each bucket now."""

        def work(session: Session) -> Mapping[str, int]:
            book = Book(session.now(), _cells(session, tenant, list(buckets)))
            return {bucket: book.used(bucket, kind) for bucket, kind in buckets.items()}

        return await self._database.run(work, write=False)

    async def reset(self, tenant: str, buckets: Sequence[str]) -> None:
        """Forget buckets."""

        def work(session: Session) -> None:
            _lock(session, tenant)
            for names in _chunks(buckets):
                sql = f"DELETE FROM routeiq_limits WHERE {_where(len(names))}"  # noqa: S608
                session.count(sql, _named(tenant, names))

        await self._database.run(work)

    async def prune(self) -> int:
        """Delete what no longer counts; how many buckets. A housekeeping job's to call."""

        def work(session: Session) -> int:
            batches.prune(session)
            return session.count(PRUNE, {"old": session.now() - GRACE_S})

        return await self._database.run(work)


def _lock(session: Session, tenant: str, *, wait_for_disk: bool = True) -> float:
    """Be alone with this tenant until the transaction ends; the time once that is so."""
    if session.dialect == "sqlite":  # `BEGIN IMMEDIATE` has the whole file
        return session.now()
    locked = session.row(LOCK if wait_for_disk else LOCK_QUICKLY, {"tenant": tenant})
    return float(locked[1]) if locked else session.now()


def _open(
    session: Session, tenant: str, buckets: Sequence[str], *, wait_for_disk: bool = True
) -> Book:
    now = _lock(session, tenant, wait_for_disk=wait_for_disk)
    return Book(now, _cells(session, tenant, buckets))


def _cells(session: Session, tenant: str, buckets: Sequence[str]) -> Iterable[tuple[CellKey, Cell]]:
    for names in _chunks(buckets):
        for row in session.rows(_select(len(names)), _named(tenant, names)):
            bucket, worker, kind, taken, number, previous, window_s, expires_at = row
            yield (
                (bucket, worker),
                Cell(
                    kind=kind,
                    taken=taken,
                    number=number,
                    previous=previous,
                    window_s=window_s,
                    expires_at=expires_at,
                ),
            )


def _save(session: Session, tenant: str, book: Book) -> None:
    """One statement for all that changed."""
    changed = sorted(book.changed.items())
    for start in range(0, len(changed), CHUNK):
        parameters: dict[str, Any] = {"tenant": tenant}
        chunk = changed[start : start + CHUNK]
        for index, ((bucket, worker), cell) in enumerate(chunk):
            parameters[f"bucket{index}"] = bucket
            parameters[f"worker{index}"] = worker
            parameters[f"kind{index}"] = cell.kind
            parameters[f"taken{index}"] = cell.taken
            parameters[f"number{index}"] = cell.number
            parameters[f"previous{index}"] = cell.previous
            parameters[f"window_s{index}"] = cell.window_s
            parameters[f"expires_at{index}"] = cell.expires_at
        session.count(_upsert(len(chunk)), parameters)


def _chunks(buckets: Sequence[str]) -> Iterable[Sequence[str]]:
    names = list(dict.fromkeys(buckets))
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))


def _named(tenant: str, names: Sequence[str]) -> dict[str, str]:
    return {"tenant": tenant, **{f"b{index}": name for index, name in enumerate(names)}}


@lru_cache(maxsize=CHUNK)
def _where(count: int) -> str:
    return f"tenant = :tenant AND bucket IN ({', '.join(f':b{n}' for n in range(count))})"


@lru_cache(maxsize=CHUNK)
def _select(count: int) -> str:
    return f"SELECT {COLUMNS} FROM routeiq_limits WHERE {_where(count)}"  # noqa: S608


@lru_cache(maxsize=CHUNK)
def _upsert(count: int) -> str:
    columns = COLUMNS.split(", ")
    rows = ", ".join(
        f"(:tenant, {', '.join(f':{column}{index}' for column in columns)})"
        for index in range(count)
    )
    return (
        f"INSERT INTO routeiq_limits (tenant, {COLUMNS}) VALUES {rows}"  # noqa: S608
        " ON CONFLICT (tenant, bucket, worker) DO UPDATE SET kind = excluded.kind,"
        " taken = excluded.taken, number = excluded.number, previous = excluded.previous,"
        " window_s = excluded.window_s, expires_at = excluded.expires_at"
    )
