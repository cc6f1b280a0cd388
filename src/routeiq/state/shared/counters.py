"""`Counters` in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from routeiq.state.database import Database, Session

from . import batches

ADD = (
    "INSERT INTO routeiq_counters (name, field, amount) VALUES (:name, :field, :amount)"
    " ON CONFLICT (name, field) DO UPDATE SET amount = routeiq_counters.amount + excluded.amount"
)
READ = "SELECT field, amount FROM routeiq_counters WHERE name = :name"
DELETE = "DELETE FROM routeiq_counters WHERE name = :name"


class SqlCounters:
    """A batch and the note that it was applied are one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        """Add a batch, once."""
        rows = [  # in one order, so that two workers never wait for each other
            {"name": name, "field": field, "amount": amount}
            for field, amount in sorted(deltas.items())
        ]

        def work(session: Session) -> None:
            now = session.now()
            if batches.is_new(session, f"counters:{name}", worker, seq, now) and rows:
                session.many(ADD, rows)

        await self._database.run(work)

    async def read(self, name: str) -> Mapping[str, int]:
        """Every field."""
        rows = await self._database.run(
            lambda session: session.rows(READ, {"name": name}), write=False
        )
        return dict(rows)

    async def delete(self, name: str) -> None:
        """Forget the group, but not which batches were applied: a late repetition must not bring it back."""
        await self._database.run(lambda session: session.count(DELETE, {"name": name}))
