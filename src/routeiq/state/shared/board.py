"""`Board` in SQL."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from routeiq.state.database import Database, Session
from routeiq.stores import Notice

KEPT_S = 86_400.0
"""A breaker that nobody probed or closed for this long belongs to a deployment that is gone."""
OPEN = (
    "INSERT INTO routeiq_breakers (id, until, worker, reason) VALUES (:id, :until, :worker, :reason)"
    " ON CONFLICT (id) DO UPDATE SET until = excluded.until, worker = excluded.worker,"
    " reason = excluded.reason"
)
CLOSE = "DELETE FROM routeiq_breakers WHERE id = :id"
FORGET = "DELETE FROM routeiq_breakers WHERE until < :old"
ALL = "SELECT id, until, worker, reason FROM routeiq_breakers ORDER BY id"
CLAIM = (
    "INSERT INTO routeiq_probes (id, worker, until) VALUES (:id, :worker, :until)"
    " ON CONFLICT (id) DO UPDATE SET worker = excluded.worker, until = excluded.until"
    " WHERE routeiq_probes.until <= :now"
)
HOLD = (
    "INSERT INTO routeiq_probes (id, worker, until) VALUES (:id, :worker, :until)"
    " ON CONFLICT (id) DO UPDATE SET worker = excluded.worker, until = excluded.until"
)
UNCLAIM = "DELETE FROM routeiq_probes WHERE id = :id"


class SqlBoard:
    """A change and its announcement are one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, notice: Notice) -> None:
        """Put a breaker up; its next probe is anybody's, but not of those who have not heard of it yet."""

        def work(session: Session) -> None:
            now = session.now()
            session.count(
                OPEN,
                {
                    "id": notice.id,
                    "until": now + notice.left_s,
                    "worker": notice.worker,
                    "reason": notice.reason,
                },
            )
            held = {"id": notice.id, "worker": notice.worker, "until": now + notice.left_s / 2}
            session.count(HOLD, held)
            session.count(FORGET, {"old": now - KEPT_S})
            _announce(session, notice.id, "open", notice.left_s, notice.worker)

        await self._database.run(work)

    async def close(self, id: str, worker: str) -> None:
        """Take it down."""

        def work(session: Session) -> None:
            session.count(CLOSE, {"id": id})
            session.count(UNCLAIM, {"id": id})
            _announce(session, id, "closed", 0.0, worker)

        await self._database.run(work)

    async def all(self) -> Sequence[Notice]:
        """Those that are open now, whether they may be probed yet or not."""

        def work(session: Session) -> list[Notice]:
            now = session.now()
            return [
                Notice(id=id, left_s=max(until - now, 0.0), worker=worker, reason=reason)
                for id, until, worker, reason in session.rows(ALL)
            ]

        return await self._database.run(work, write=False)

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        """Whether nobody has the probe; then this worker has it for `ttl_s`."""

        def work(session: Session) -> bool:
            now = session.now()
            claim = {"id": id, "worker": worker, "now": now, "until": now + ttl_s}
            return session.count(CLAIM, claim) > 0

        return await self._database.run(work)


def _announce(session: Session, id: str, state: str, left_s: float, worker: str) -> None:
    payload = {"id": id, "state": state, "left_s": left_s, "worker": worker}
    session.notify("breakers", orjson.dumps(payload).decode())
