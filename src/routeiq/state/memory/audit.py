"""`Audit` in memory."""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.ports import Clock
from routeiq.stores import Change
from routeiq.types import JsonObject


class MemoryAudit:
    """The trail of one process; the other ledgers write to it too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: list[JsonObject] = []
        self._last = 0

    async def add(self, change: Change) -> None:
        """Add a row."""
        self.record(change)

    def record(self, change: Change) -> None:
        """`add` for stores that change something in the same step."""
        self._last += 1
        self._rows.append(
            {
                "id": self._last,
                "time": self._clock.wall(),
                "actor": change.actor,
                "action": change.action,
                "target": change.target,
                "details": change.details,
                "request_id": change.request_id,
            }
        )

    async def latest(self, *, limit: int = 100, before: int | None = None) -> Sequence[JsonObject]:
        """Rows, newest first, ids below `before`."""
        found = [row for row in reversed(self._rows) if before is None or row["id"] < before]
        return [dict(row) for row in found[:limit]]

    async def prune(self, before_s: float) -> int:
        """Delete what is older than this time; how many."""
        kept = [row for row in self._rows if row["time"] >= before_s]
        pruned = len(self._rows) - len(kept)
        self._rows = kept
        return pruned
