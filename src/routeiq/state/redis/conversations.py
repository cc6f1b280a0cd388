"""`Conversations` on Redis: one key each, which Redis forgets by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .connection import RedisConnection
from .keys import affinity

BATCH = 64
"""Commands per write: more would keep the event loop for too long at once."""


class RedisConversations:
    """Several are written in one go: their commands share one write."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def get(self, key: str) -> str | None:
        """The deployment's id."""
        name = affinity(key)
        said = await self._connection.hot(name, "GET", name)
        return None if said is None else str(said, "utf-8")

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        """Set or renew several."""
        ttl_ms = max(round(ttl_s * 1000), 1)
        named = [(affinity(key), deployment) for key, deployment in entries.items()]
        for start in range(0, len(named), BATCH):
            await self._connection.many(
                [
                    (name, ("SET", name, deployment, "PX", ttl_ms))
                    for name, deployment in named[start : start + BATCH]
                ]
            )

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget several."""
        names = [affinity(key) for key in keys]
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            await self._connection.many([(name, ("UNLINK", name)) for name in part])

    async def prune(self) -> int:
        """Nothing to do: keys expire."""
        return 0
