"""`Conversations` in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routeiq.state.database import Database, Session

GET = "SELECT deployment, expires_at FROM routeiq_conversations WHERE key = :key"
PUT = (
    "INSERT INTO routeiq_conversations (key, deployment, expires_at)"
    " VALUES (:key, :deployment, :expires_at)"
    " ON CONFLICT (key) DO UPDATE SET deployment = excluded.deployment,"
    " expires_at = excluded.expires_at"
)
DELETE = "DELETE FROM routeiq_conversations WHERE key = :key"
PRUNE = (
    "DELETE FROM routeiq_conversations WHERE key IN"
    " (SELECT key FROM routeiq_conversations WHERE expires_at <= :now ORDER BY expires_at LIMIT :at_once)"
)
AT_ONCE = 5000
"""Rows that one transaction of `prune` deletes: others wait for it."""


class SqlConversations:
    """Expired ones take room until `prune`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: str) -> str | None:
        """The deployment's id."""

        def work(session: Session) -> str | None:
            row = session.row(GET, {"key": key})
            return str(row[0]) if row and row[1] > session.now() else None

        return await self._database.run(work, write=False)

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        """Set or renew several."""

        def work(session: Session) -> None:
            expires_at = session.now() + ttl_s
            rows = [  # in one order, so that two workers never wait for each other
                {"key": key, "deployment": deployment, "expires_at": expires_at}
                for key, deployment in sorted(entries.items())
            ]
            session.many(PUT, rows)

        if entries:
            await self._database.run(work)

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget several."""
        rows = [{"key": key} for key in sorted(keys)]
        if rows:
            await self._database.run(lambda session: session.many(DELETE, rows))

    async def prune(self) -> int:
        """Delete what has expired, some at a time; how many."""

        def work(session: Session) -> int:
            return session.count(PRUNE, {"now": session.now(), "at_once": AT_ONCE})

        pruned = 0
        while True:
            count = await self._database.run(work)
            pruned += count
            if count < AT_ONCE:
                return pruned
