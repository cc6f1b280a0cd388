"""`Board` on Redis: a key per open breaker, and a list of them. Times are by the server's clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from routeiq.stores import Events, Notice
from routeiq.types import JsonObject

from . import keys
from .connection import RedisConnection, script


class RedisBoard:
    """Changes are announced on `events`, if there are any."""

    def __init__(self, connection: RedisConnection, events: Events | None = None) -> None:
        self._connection = connection
        self._events = events
        self._open = script("board_open")
        self._list = script("board_list")

    async def open(self, notice: Notice) -> None:
        """Put a breaker up; its next probe is anybody's, but not of those who have not heard of it yet."""
        left_ms, keep_ms = round(notice.left_s * 1000), keys.BOARD_S * 1000
        probe, held_ms = keys.probe(notice.id), left_ms // 2
        hold = ("SET", probe, notice.worker, "PX", held_ms) if held_ms else ("DEL", probe)
        rest = json.dumps([notice.worker, notice.reason])
        await asyncio.gather(
            self._connection.script(self._list, [keys.BOARD], [notice.id, left_ms + keep_ms]),
            self._connection.script(
                self._open, [keys.breaker(notice.id)], [left_ms, keep_ms, rest]
            ),
            self._connection.run(*hold),
        )
        await self._announce(notice.id, "open", notice.left_s, notice.worker)

    async def close(self, id: str, worker: str) -> None:
        """Take it down."""
        await asyncio.gather(
            self._connection.run("ZREM", keys.BOARD, id),
            self._connection.run("DEL", keys.breaker(id)),
            self._connection.run("DEL", keys.probe(id)),
        )
        await self._announce(id, "closed", 0.0, worker)

    async def all(self) -> Sequence[Notice]:
        """Those that are open now, whether they may be probed yet or not."""
        now, *said = await self._connection.script(self._list, [keys.BOARD], [])
        ids = sorted(name.decode() for name in said)
        names = [keys.breaker(id) for id in ids]
        values = await self._connection.many([(name, ("GET", name)) for name in names])
        return [_notice(id, now, value) for id, value in zip(ids, values, strict=True) if value]

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        """Whether nobody has the probe; then this worker has it for `ttl_s`."""
        key = keys.probe(id)
        said = await self._connection.hot(
            key, "SET", key, worker, "NX", "PX", max(round(ttl_s * 1000), 1)
        )
        return said is not None

    async def _announce(self, id: str, state: str, left_s: float, worker: str) -> None:
        if self._events is not None:
            payload: JsonObject = {"id": id, "state": state, "left_s": left_s, "worker": worker}
            await self._events.publish("breakers", payload)


def _notice(id: str, now_ms: int, value: bytes) -> Notice:
    until, _, rest = value.partition(b" ")
    worker, reason = json.loads(rest)
    return Notice(id=id, left_s=max(int(until) - now_ms, 0) / 1000, worker=worker, reason=reason)
