"""`Leases` in SQL: one statement takes, renews or refuses."""

from __future__ import annotations

from routeiq.state.database import Database, Session
from routeiq.stores import Lease

ACQUIRE = (
    "INSERT INTO routeiq_leases (name, holder, token, until) VALUES (:name, :holder, 1, :until)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,"
    " token = routeiq_leases.token + CASE WHEN routeiq_leases.until > :now THEN 0 ELSE 1 END"
    " WHERE routeiq_leases.until <= :now OR routeiq_leases.holder = excluded.holder"
    " RETURNING token"
)
RELEASE = "UPDATE routeiq_leases SET until = 0 WHERE name = :name AND holder = :holder"
READ = "SELECT holder, token, until FROM routeiq_leases WHERE name = :name"


class SqlLeases:
    """Rows are never deleted: the next token must be greater."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take or renew."""

        def work(session: Session) -> Lease | None:
            now = session.now()
            row = session.row(
                ACQUIRE, {"name": name, "holder": holder, "now": now, "until": now + ttl_s}
            )
            if row is None:
                return None
            return Lease(name=name, holder=holder, token=row[0], left_s=ttl_s)

        return await self._database.run(work)

    async def release(self, name: str, holder: str) -> None:
        """Give it back, if it is still ours."""
        ours = {"name": name, "holder": holder}
        await self._database.run(lambda session: session.count(RELEASE, ours))

    async def read(self, name: str) -> Lease | None:
        """Who has it now."""

        def work(session: Session) -> Lease | None:
            row = session.row(READ, {"name": name})
            left_s = row[2] - session.now() if row else 0.0
            if row is None or left_s <= 0:
                return None
            return Lease(name=name, holder=row[0], token=row[1], left_s=left_s)

        return await self._database.run(work, write=False)
