"""`Roster` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from routeiq.ports import Clock
from routeiq.stores import Worker


class MemoryRoster:
    """The workers that share this object."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._workers: dict[str, Worker] = {}

    async def beat(self, worker: Worker) -> None:
        """Say that this worker lives and what it has applied. Both times are set here."""
        now = self._clock.wall()
        known = self._workers.get(worker.id)
        started_at = now if known is None else known.started_at
        self._workers[worker.id] = replace(worker, started_at=started_at, seen_at=now)

    async def all(self, *, within_s: float = 30.0) -> Sequence[Worker]:
        """Those that were seen lately."""
        since = self._clock.wall() - within_s
        return [one for _, one in sorted(self._workers.items()) if one.seen_at >= since]

    async def leave(self, id: str) -> None:
        """A worker ended in order."""
        self._workers.pop(id, None)
