"""After a request: what it really took against what was estimated, told to the store in batches.

Sums are kept by bucket, so memory is bounded by the buckets however long the store is down. A batch whose answer
did not come is sent again as it was, with its number, and counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from math import ceil

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import NANO, Delta, Limits

from .alerts import Alerts
from .buckets import LOCAL, REQUESTS, SLOTS, USD, WINDOW_S, Bucket, Tenant, Ticket
from .leases import give_back
from .recovery import MOST, Recovery, doubt, unready
from .spending import Spending

AT_ONCE = 16
"""Batches that are under way together."""
SLOTS_TTL_S = 30.0


class Settlement:
    """Settles tickets and flushes what came of it."""

    def __init__(
        self,
        limits: Limits,
        spending: Spending | None,
        *,
        recovery: Recovery,
        alerts: Alerts,
        worker: str,
        clock: Clock,
    ) -> None:
        self.leased: set[Bucket] = set()
        self.holders: set[Tenant] = set()
        self.wake = asyncio.Event()
        self._limits = limits
        self._spending = spending
        self._recovery = recovery
        self._alerts = alerts
        self._worker = worker
        self._clock = clock
        self._dirty: set[Tenant] = set()

    def settle(
        self, ticket: Ticket, tokens: int | None, cost_usd: float | None, answered: bool
    ) -> None:
        """Correct the estimates; only the first call counts."""
        tenant = ticket.tenant
        if ticket.done or tenant is None:
            return
        ticket.done = True
        tenant.open -= 1
        if not answered:
            tokens, cost_usd = tokens or 0, cost_usd or 0.0
        nano = None if cost_usd is None else max(ceil(cost_usd * NANO), 0)
        for bucket, amount, window in ticket.takes:
            measure = bucket.measure
            if measure == REQUESTS:
                continue
            if measure == SLOTS:
                self._free(bucket)
                continue
            actual = nano if measure == USD else tokens
            self._correct(bucket, amount, window, amount if actual is None else max(actual, 0))
        self._dirty.add(tenant)

    def _correct(self, bucket: Bucket, amount: int, window: int, actual: int) -> None:
        more = actual - amount
        if window == LOCAL and bucket.outage_at is not None:
            bucket.outage_taken += more
        if bucket.span is None:
            if window >= 0 and more:
                bucket.used += more
                bucket.tenant.owe(bucket, window, more)
            return
        if window != bucket.lease_window:  # the store never counted it, or lost it
            more = actual
        if more:
            bucket.used += more
            bucket.tenant.owe(bucket, 0, more)
        if self._spending is not None and actual:
            self._spending.note(bucket, actual)
        if bucket.alerts and bucket.used >= bucket.alerts[0] * bucket.limit:
            self._alerts.look(bucket)

    def _free(self, bucket: Bucket) -> None:
        bucket.lease += 1
        if bucket.used >= bucket.limit:
            self.wake.set()  # somebody may be waiting for it on another worker

    def owed(self, tenant: Tenant) -> None:
        """Something must be told to the store."""
        self._dirty.add(tenant)

    @property
    def unsent(self) -> int:
        """Tenants that have something to tell."""
        return len(self._dirty)

    async def flush(self, *, everything: bool = False) -> None:
        """Give back leases that are over (`everything`: all) and send what is owed. Never raises."""
        now = self._clock.monotonic()
        for bucket in [b for b in self.leased if everything or now >= b.lease_until]:
            give_back(bucket)
            self.leased.discard(bucket)
            self._dirty.add(bucket.tenant)
        waiting = [tenant for tenant in self._dirty if not tenant.flushing]
        for start in range(0, len(waiting), AT_ONCE):
            group = waiting[start : start + AT_ONCE]
            if len(group) == 1:
                sent = [await self.send(group[0])]
            else:
                sent = await asyncio.gather(*(self.send(tenant) for tenant in group))
            if not any(sent):
                return  # the store is down: later

    async def send(self, tenant: Tenant) -> bool:
        """Send what one tenant owes; whether the store has it all now."""
        if tenant.flushing:
            return False
        tenant.flushing = True
        try:
            while tenant.sending is not None or self._next(tenant, await self._ready(tenant)):
                await self._send(tenant)
        except StoreUnavailable:
            doubt(tenant)
            return False
        finally:
            tenant.flushing = False
        if not tenant.pending:
            self._dirty.discard(tenant)
        return True

    async def _ready(self, tenant: Tenant) -> bool:
        buckets = {bucket for bucket, _ in tenant.pending}
        if unready(buckets) and not await self._recovery.prepare(tenant):
            return False
        await self._recovery.plant(tenant, buckets)
        return True

    async def _send(self, tenant: Tenant) -> None:
        if tenant.doubt and tenant.sending:
            # What is unanswered may be of a store that lost everything.
            await self._recovery.prepare(tenant)
        if tenant.sending:
            await self._limits.adjust(tenant.id, self._worker, tenant.seq, tenant.sending)
        tenant.sending = None

    def _next(self, tenant: Tenant, ready: bool) -> bool:
        """Make the next batch; whether there is one."""
        wall = self._clock.wall()
        deltas = list(_slots(tenant))
        for (bucket, window), amount in list(tenant.pending.items()):
            if bucket.kind == "period" and not (ready and bucket.ready):
                continue
            del tenant.pending[bucket, window]
            deltas.append(_delta(bucket, window, amount, wall))
        if not deltas:
            return False
        tenant.seq += 1
        tenant.sending = tuple(deltas)
        return True

    async def keep_slots(self) -> None:
        """Say that this worker lives, to every tenant whose slots it holds. Never raises."""
        for tenant in list(self.holders):
            if not any(bucket.held for bucket in tenant.buckets.values()):
                self.holders.discard(tenant)
                continue
            try:
                await self._limits.keep_slots(tenant.id, self._worker, SLOTS_TTL_S)
            except StoreUnavailable:
                doubt(tenant)
                self._dirty.add(tenant)


def _slots(tenant: Tenant) -> Iterable[Delta]:
    for bucket in tenant.buckets.values():
        if bucket.kind != "slots":
            continue
        free, bucket.lease = bucket.lease, 0
        bucket.held -= free
        bucket.used -= free
        if tenant.doubt:  # how many the store has is not known: none, then as many as there are
            yield Delta(bucket=bucket.name, kind="slots", amount=-MOST)
            if bucket.held:
                yield Delta(bucket=bucket.name, kind="slots", amount=bucket.held)
        elif free:
            yield Delta(bucket=bucket.name, kind="slots", amount=-free)
    tenant.doubt = False


def _delta(bucket: Bucket, window: int, amount: int, wall: float) -> Delta:
    keep_s = 0.0 if bucket.span is None else bucket.span.keep_s(wall)
    return Delta(
        bucket=bucket.key,
        kind=bucket.kind,
        amount=amount,
        window=window,
        window_s=WINDOW_S,
        keep_s=keep_s,
    )
