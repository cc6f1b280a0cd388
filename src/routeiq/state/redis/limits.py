"""`Limits` on Redis: one script decides on all buckets of a request, by the server's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routeiq.stores import Ask, BucketKind, Delta, Grant, Reservation

from . import keys
from .connection import RedisConnection, script

SLOTS_TTL_S = 30.0
"""How long slots stay taken after a worker took one without `Limits.keep_slots`."""
SLOTS_MS = int(SLOTS_TTL_S * 1000)
PERIOD_MS = keys.PERIOD_S * 1000
KINDS: tuple[BucketKind, ...] = ("window", "period", "slots")
GRANT = 4
"""Integers per grant in the script's answer."""


class RedisLimits:
    """All keys of a tenant are in one slot of a cluster. A bucket that is not used costs nothing after its TTL."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._reserve = script("limits_reserve")
        self._adjust = script("limits_adjust")
        self._keep = script("limits_keep")
        self._usage = script("limits_usage")

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        """Take from all buckets or from none, in one round trip."""
        if not asks:
            return Reservation(grants=())
        names: list[str] = []
        args: list[str | int] = [worker, SLOTS_MS, PERIOD_MS]
        slots = False
        for ask in asks:
            kind = ask.kind
            slots = slots or kind == "slots"
            names.append(keys.limit(tenant, kind, ask.bucket))
            args += (
                kind[0],
                ask.limit,
                ask.amount,
                ask.extra,
                _ms(ask.window_s),
                _ms(ask.keep_s),
                ask.seed,
            )
        if slots:
            names.append(keys.limit_held(tenant, worker))
        said = await self._connection.script(self._reserve, names, args)
        grants = tuple(
            Grant(taken=said[i], used=said[i + 1], reset_s=said[i + 2] / 1000, window=said[i + 3])
            for i in range(2, len(said), GRANT)
        )
        if not said[0]:
            return Reservation(grants=grants)
        return Reservation(grants=grants, refused=said[0] - 1, retry_after_s=said[1] / 1000)

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        """Settle a batch, once."""
        names = [keys.limit_seq(tenant, worker), keys.limit_held(tenant, worker)]
        args: list[str | int] = [worker, seq, keys.LIMIT_SEQ_S, SLOTS_MS, PERIOD_MS]
        for delta in deltas:
            names.append(keys.limit(tenant, delta.kind, delta.bucket))
            args += (
                delta.kind[0],
                delta.amount,
                delta.window,
                _ms(delta.window_s),
                _ms(delta.keep_s),
            )
        await self._connection.script(self._adjust, names, args)

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        """This worker's slots, those that are still taken, stay so for `ttl_s`."""
        held = keys.limit_held(tenant, worker)
        await self._connection.script(self._keep, [held], [worker, _ms(ttl_s)])

    async def usage(self, tenant: str, buckets: Mapping[str, BucketKind]) -> Mapping[str, int]:
        """What is taken in each bucket now."""
        if not buckets:
            return {}
        names = [keys.limit(tenant, kind, bucket) for bucket, kind in buckets.items()]
        said = await self._connection.script(
            self._usage, names, [kind[0] for kind in buckets.values()]
        )
        return dict(zip(buckets, said, strict=True))

    async def reset(self, tenant: str, buckets: Sequence[str]) -> None:
        """Forget buckets."""
        if buckets:
            names = [keys.limit(tenant, kind, bucket) for bucket in buckets for kind in KINDS]
            await self._connection.run("DEL", *names)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
