"""`Board` in memory."""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.ports import Clock
from routeiq.stores import Events, Notice
from routeiq.types import JsonObject


class MemoryBoard:
    """Changes are announced on `events`, if there are any."""

    def __init__(self, clock: Clock, events: Events | None = None) -> None:
        self._clock = clock
        self._events = events
        self._notices: dict[str, tuple[Notice, float]] = {}
        self._probes: dict[str, float] = {}

    async def open(self, notice: Notice) -> None:
        """Put a breaker up; its next probe is anybody's, but not of those who have not heard of it yet."""
        now = self._clock.monotonic()
        self._notices[notice.id] = (notice, now + notice.left_s)
        self._probes[notice.id] = now + notice.left_s / 2
        await self._announce(notice.id, "open", notice.left_s, notice.worker)

    async def close(self, id: str, worker: str) -> None:
        """Take it down."""
        self._notices.pop(id, None)
        self._probes.pop(id, None)
        await self._announce(id, "closed", 0.0, worker)

    async def all(self) -> Sequence[Notice]:
        """Those that are open now, whether they may be probed yet or not."""
        now = self._clock.monotonic()
        return [
            Notice(id=id, left_s=max(until - now, 0.0), worker=notice.worker, reason=notice.reason)
            for id, (notice, until) in sorted(self._notices.items())
        ]

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        """Whether nobody has the probe; then this worker has it for `ttl_s`."""
        now = self._clock.monotonic()
        if self._probes.get(id, now) > now:
            return False
        self._probes[id] = now + ttl_s
        return True

    async def _announce(self, id: str, state: str, left_s: float, worker: str) -> None:
        if self._events is not None:
            payload: JsonObject = {"id": id, "state": state, "left_s": left_s, "worker": worker}
            await self._events.publish("breakers", payload)
