"""Making sure that the store knows what was spent before it is asked: at first, and after it failed.

A tenant has a mark in the store, a bucket that is written once. If it is another one after an outage, the store
lost what it had, and starts again from the durable counters. What this worker had not told it by then is in
those too, so it is dropped rather than counted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Ask, Limits

from .buckets import NEVER, Bucket, Tenant
from .periods import TOTAL_KEEP_S
from .spending import Spending

MARK = "mark"
STORE = "store"
"""A tenant with nothing but a mark, looked at all the time on behalf of all."""
MOST = 2**53 - 1
"""No limit: the largest integer that a store's script counts exactly."""


class Recovery:
    """Prepares budgets. Without durable counters beside it, the store itself is durable: nothing to do."""

    def __init__(
        self, limits: Limits, spending: Spending | None, *, worker: str, clock: Clock
    ) -> None:
        self._limits = limits
        self._spending = spending
        self._worker = worker
        self._clock = clock
        self._epoch: int | None = None

    async def lost(self) -> bool:
        """Whether the store lost what it had since the last look, without ever failing (FLUSHALL).

        Raises:
            StoreUnavailable: the limits cannot be reached.
        """
        before, self._epoch = self._epoch, await self._mark_of(STORE)
        return before is not None and before != self._epoch

    async def prepare(self, tenant: Tenant) -> bool:
        """Make every budget of the tenant ready; whether it is known what was spent before.

        Raises:
            StoreUnavailable: the limits cannot be reached.
        """
        if tenant.preparing is None:
            tenant.preparing = asyncio.ensure_future(self._prepare(tenant))
            tenant.preparing.add_done_callback(lambda task: _over(tenant, task))
        # Whoever waits may be cancelled; the others still want it.
        return await asyncio.shield(tenant.preparing)

    async def _prepare(self, tenant: Tenant) -> bool:
        buckets = [b for b in tenant.buckets.values() if b.kind == "period" and not b.ready]
        if self._spending is None:
            for bucket in buckets:
                bucket.ready = True
            return True
        await self._look_at_mark(tenant)
        spans = {bucket.span.name: bucket.span for bucket in buckets if bucket.span is not None}
        try:
            spent = await self._spending.read(tenant, spans.values())
        except StoreUnavailable:
            return False
        for bucket in buckets:
            bucket.seed = spent.get(bucket.name, 0)
            bucket.ready = True
        return True

    async def plant(self, tenant: Tenant, buckets: Iterable[Bucket]) -> None:
        """Let buckets begin at their seeds before anything is settled in them.

        Raises:
            StoreUnavailable: the limits cannot be reached.
        """
        wall = self._clock.wall()
        seeded = [bucket for bucket in buckets if bucket.seed]
        asks = [
            Ask(
                bucket=bucket.key,
                kind="period",
                limit=MOST,
                amount=1,  # what takes nothing need not be written
                seed=bucket.seed,
                keep_s=bucket.span.keep_s(wall),
            )
            for bucket in seeded
            if bucket.span is not None
        ]
        if asks:
            await self._limits.reserve(tenant.id, self._worker, asks)
            for bucket in seeded:
                bucket.seed = 0
                tenant.owe(bucket, 0, -1)

    async def _look_at_mark(self, tenant: Tenant) -> None:
        """Find out whether it is still the store that this worker knew."""
        mark = await self._mark_of(tenant.id)
        if tenant.epoch is not None and mark != tenant.epoch:
            _lost(tenant)
        tenant.epoch = mark

    async def _mark_of(self, tenant_id: str) -> int:
        mark = max(int(self._clock.wall() * 1e6), 1)
        # Granted only where there is no mark yet; otherwise the answer has the one that there is.
        ask = Ask(bucket=MARK, kind="period", limit=mark, amount=mark, keep_s=TOTAL_KEEP_S)
        said = await self._limits.reserve(tenant_id, self._worker, [ask])
        return said.grants[0].used


def doubt(tenant: Tenant) -> None:
    """The store failed: what it knows must be made sure of before it counts again."""
    tenant.doubt = True
    for bucket in tenant.buckets.values():
        if bucket.kind == "period":
            bucket.ready = False


def _lost(tenant: Tenant) -> None:
    """Everything that the store counted is gone; the durable counters have what was settled."""
    for bucket in tenant.buckets.values():
        if bucket.kind == "period":
            bucket.lease, bucket.lease_until, bucket.low = 0, NEVER, -1
            bucket.lease_window += 1
    for key in [key for key in tenant.pending if key[0].kind == "period"]:
        del tenant.pending[key]
    if tenant.sending is not None:
        kept = tuple(delta for delta in tenant.sending if delta.kind != "period")
        tenant.sending = kept or None


def _over(tenant: Tenant, task: asyncio.Task[bool]) -> None:
    tenant.preparing = None
    if not task.cancelled():
        task.exception()  # those who waited were told


def unready(buckets: Collection[Bucket]) -> bool:
    """Whether one of these must be prepared first."""
    return any(not bucket.ready for bucket in buckets)
