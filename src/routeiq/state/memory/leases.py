"""`Leases` in memory."""

from __future__ import annotations

from routeiq.ports import Clock
from routeiq.stores import Lease


class MemoryLeases:
    """One holder at a time within one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[str, tuple[str, int, float]] = {}

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take or renew."""
        now = self._clock.monotonic()
        owner, token, until = self._leases.get(name, ("", 0, 0.0))
        held = until > now
        if held and owner != holder:
            return None
        if not held:
            token += 1
        self._leases[name] = (holder, token, now + ttl_s)
        return Lease(name=name, holder=holder, token=token, left_s=ttl_s)

    async def release(self, name: str, holder: str) -> None:
        """Give it back; the token is kept, so that the next one is greater."""
        owner, token, _ = self._leases.get(name, ("", 0, 0.0))
        if token and owner == holder:
            self._leases[name] = ("", token, 0.0)

    async def read(self, name: str) -> Lease | None:
        """Who has it now."""
        owner, token, until = self._leases.get(name, ("", 0, 0.0))
        left_s = until - self._clock.monotonic()
        return Lease(name=name, holder=owner, token=token, left_s=left_s) if left_s > 0 else None
