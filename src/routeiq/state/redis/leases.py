"""`Leases` on Redis: a key with a TTL, and beside it the last fencing token."""

from __future__ import annotations

from routeiq.stores import Lease

from . import keys
from .connection import RedisConnection, script


class RedisLeases:
    """One holder at a time as long as Redis keeps what it acknowledged; a failover may lose the last writes."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._acquire = script("lease_acquire")
        self._read = script("lease_read")

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take or renew."""
        names = [keys.lease(name), keys.lease_token(name)]
        token = await self._connection.script(
            self._acquire, names, [holder, max(round(ttl_s * 1000), 1)]
        )
        if token is None:
            return None
        return Lease(name=name, holder=holder, token=token, left_s=ttl_s)

    async def release(self, name: str, holder: str) -> None:
        """Give it back, if it is still ours."""
        await self._connection.script(self._read, [keys.lease(name)], [holder])

    async def read(self, name: str) -> Lease | None:
        """Who has it now."""
        said = await self._connection.script(self._read, [keys.lease(name)], [])
        if said is None:
            return None
        token, holder, left_ms = said
        return Lease(name=name, holder=holder.decode(), token=token, left_s=max(left_ms, 0) / 1000)
