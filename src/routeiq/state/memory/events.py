"""`Events` within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from routeiq.stores import OnEvent
from routeiq.types import JsonObject


class MemoryEvents:
    """Several workers of one process may share it; each that listens hears everything."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[tuple[str, JsonObject]]] = set()

    async def publish(self, topic: str, payload: JsonObject) -> None:
        """Tell everybody who listens."""
        for queue in self._queues:
            queue.put_nowait((topic, dict(payload)))

    async def listen(self, on_event: OnEvent, on_gap: Callable[[], Awaitable[None]]) -> None:
        """Hear events until cancelled; there is one gap, at the beginning."""
        queue: asyncio.Queue[tuple[str, JsonObject]] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await on_gap()
            while True:
                await on_event(*await queue.get())
        finally:
            self._queues.discard(queue)
