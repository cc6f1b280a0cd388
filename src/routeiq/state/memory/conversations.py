"""`Conversations` in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routeiq.ports import Clock


class MemoryConversations:
    """Expired ones take memory until `prune`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}

    async def get(self, key: str) -> str | None:
        """The deployment's id."""
        deployment, until = self._kept.get(key, ("", 0.0))
        return deployment if until > self._clock.monotonic() else None

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        """Set or renew several."""
        until = self._clock.monotonic() + ttl_s
        self._kept.update({key: (deployment, until) for key, deployment in entries.items()})

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget several."""
        for key in keys:
            self._kept.pop(key, None)

    async def prune(self) -> int:
        """Delete what has expired."""
        now = self._clock.monotonic()
        expired = [key for key, (_, until) in self._kept.items() if until <= now]
        await self.delete(expired)
        return len(expired)
