"""`Limiter`: may this request pass, and what did it take in the end?

Calls on the request path are synchronous where leases cover the request; see `docs/how-to/limits-and-budgets.md`
for what is guaranteed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from math import ceil

from routeiq.access.principal import Principal
from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock, Header
from routeiq.stores import NANO, Counters, Limits

from .admission import Admission, ask_of
from .alerts import Alerts, OnAlert
from .buckets import NO_LIMITS, Amounts, Bucket, Take, Tenant, Ticket
from .headers import headers_of
from .leases import received, wanted
from .outage import Outage
from .plans import Plans
from .reading import Reading, Usage
from .recovery import Recovery, doubt
from .settlement import Settlement
from .spending import Spending

SPEND_S = 1.0
"""How often spending is written to the durable counters."""
LOOK_S = 1.0
"""How often it is looked whether the store lost its data while it was running."""
SLOTS_S = 10.0
"""How often a worker says that its slots are still taken."""
CLOSE_S = 5.0
ONE: Amounts = (1, 1, 1, 1, 1)
logger = logging.getLogger("routeiq.access")


class Limiter:
    """Rate limits and budgets of requests, for one worker.

    Args:
        limits: where all workers count together.
        spending: durable counters, where `limits` may lose its memory (Redis); `None` where it is durable itself.
        clock: time.
        worker: this process's id, unique per start.
        workers: how many workers share the limits, as far as is known; for budgets while the store is down.
        flush_s: how often settlements are sent.
        on_alert: called with rule, share and use (nano-USD or tokens) when a budget crosses a share.
        rng: for jitter.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        spending: Counters | None,
        clock: Clock,
        worker: str,
        workers: int | Callable[[], int] = 1,
        flush_s: float = 0.1,
        on_alert: OnAlert | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._worker = worker
        self._flush_s = flush_s
        self._rng = rng or random.Random()
        self._plans = Plans(clock)
        self._known = self._plans.known
        self._spending = (
            None if spending is None else Spending(spending, worker=worker, clock=clock)
        )
        self._recovery = Recovery(limits, self._spending, worker=worker, clock=clock)
        self._alerts = Alerts(limits, on_alert, worker=worker, clock=clock)
        self._settlement = Settlement(
            limits,
            self._spending,
            recovery=self._recovery,
            alerts=self._alerts,
            worker=worker,
            clock=clock,
        )
        self._admission = Admission(
            limits,
            plans=self._plans,
            recovery=self._recovery,
            settlement=self._settlement,
            outage=Outage(workers if callable(workers) else lambda: workers),
            alerts=self._alerts,
            worker=worker,
            clock=clock,
        )
        self._reading = Reading(limits, self._recovery, worker=worker, clock=clock)
        self._low: set[Bucket] = set()
        self._thirst = asyncio.Event()

    def check(self, principal: Principal) -> None:
        """Refuse at once whom a limit is known to refuse whatever is asked; costs no round trip.

        Raises:
            RateLimitExceeded, BudgetExceeded: one is used up.
        """
        plan = self._known.get(id(principal)) if principal.rules else None
        if plan is None or not plan.start <= self._clock.wall() < plan.end:
            return
        error = self._admission.known(plan, ONE, self._clock.monotonic())
        if error is not None:
            raise error

    def admit(self, principal: Principal, *, tokens: int, cost_usd: float | None) -> Ticket | None:
        """A ticket if this worker's leases cover the request, else `None`: then await `admit_slowly`.

        `tokens` (input and output) and `cost_usd` are estimates; a cost that is not known counts as nothing,
        but a budget that is used up refuses nevertheless.
        """
        if not principal.rules:
            return NO_LIMITS
        plan = self._known.get(id(principal))
        clock = self._clock
        if plan is None or not plan.start <= clock.wall() < plan.end:
            plan = self._plans.of(principal)
        amounts = amounts_of(tokens, cost_usd)
        now = clock.monotonic()
        takes: list[Take] = []
        for bucket in plan.buckets:
            amount = amounts[bucket.measure]
            if bucket.lease < amount or now >= bucket.lease_until:
                return None  # nothing was taken yet
            takes.append((bucket, amount, bucket.lease_window))
        for bucket, amount, _ in takes:
            bucket.took += amount
            bucket.times += 1
            bucket.lease = lease = bucket.lease - amount
            if lease < bucket.low:
                self._fetch(bucket)
        tenant = plan.tenant
        tenant.open += 1
        return Ticket(tenant, takes)

    async def admit_slowly(
        self, principal: Principal, *, tokens: int, cost_usd: float | None
    ) -> Ticket:
        """The same with one round trip for all buckets that are lacking.

        Raises:
            RateLimitExceeded, BudgetExceeded: one is used up; nothing was taken.
            StateUnavailable: the store is down, and one of the limits fails closed.
        """
        if not principal.rules:
            return NO_LIMITS
        return await self._admission.admit(principal, amounts_of(tokens, cost_usd))

    def settle(
        self, ticket: Ticket, *, tokens: int | None, cost_usd: float | None, answered: bool
    ) -> None:
        """Correct the estimates by what it really was, once; later calls do nothing.

        Unknown after an answer keeps the estimate. Without an answer tokens and money are given back unless
        they are known; the request stays counted.
        """
        if not ticket.done:
            self._settlement.settle(ticket, tokens, cost_usd, answered)

    def headers(self, ticket: Ticket) -> list[Header]:
        """The `x-ratelimit-*` of an admitted request."""
        if not ticket.takes:
            return []
        return headers_of((take[0] for take in ticket.takes), self._clock.monotonic())

    async def usage(self, principal: Principal) -> list[Usage]:
        """What is used of each of a principal's limits now, over all workers.

        Raises:
            StoreUnavailable: nobody knows.
        """
        return await self._reading.usage(self._plans.of(principal))

    def store_is_back(self) -> None:
        """Make sure of everything: the store may have lost what it had. For `Link.on_up`."""
        for tenant in self._plans.tenants.values():
            doubt(tenant)
            self._settlement.owed(tenant)

    def report(self) -> dict[str, int]:
        """For the status route and metrics."""
        return {
            "tenants": len(self._plans.tenants),
            "unsent_tenants": self._settlement.unsent,
            "leased_buckets": len(self._settlement.leased),
        }

    async def run(self) -> None:
        """Flush, fetch leases and keep slots until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flushing())
            group.create_task(self._fetching())
            group.create_task(self._every(SLOTS_S, self._settlement.keep_slots))
            if self._spending is not None:
                group.create_task(self._every(SPEND_S, self._spending.flush))
                group.create_task(self._every(LOOK_S, self.look))

    async def flush(self) -> None:
        """Send what is owed now. Never raises; what could not be sent is kept."""
        await self._settlement.flush()
        await self._quietly(self._alerts.flush)
        self._plans.sweep()

    async def look(self) -> None:
        """Notice that the store lost its data while it was running.

        Raises:
            StoreUnavailable: it cannot be asked.
        """
        if await self._recovery.lost():
            logger.warning("the store of limits lost its data; budgets start from what was kept")
            self.store_is_back()

    async def close(self) -> None:
        """Give everything back and send it, as far as that is possible in `CLOSE_S` seconds; after `run`."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._settlement.flush(everything=True)
                await self._quietly(self._alerts.flush)
                if self._spending is not None:
                    await self._quietly(self._spending.flush)
        except TimeoutError:
            logger.warning("limits could not be settled before the end", extra=self.report())

    async def fetch(self) -> None:
        """Renew the leases that run low, without any request waiting for it."""
        tenants: dict[Tenant, list[Bucket]] = {}
        for bucket in self._low:
            if bucket.ready and not bucket.asking:
                tenants.setdefault(bucket.tenant, []).append(bucket)
        self._low.clear()
        for tenant, buckets in tenants.items():
            await self._fetch_for(tenant, buckets)

    def _fetch(self, bucket: Bucket) -> None:
        bucket.low = -1  # once is enough
        self._low.add(bucket)
        self._thirst.set()

    async def _fetch_for(self, tenant: Tenant, buckets: list[Bucket]) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        extras = [(bucket, wanted(bucket, 1, now)) for bucket in buckets]
        buckets = [bucket for bucket, extra in extras if extra]
        asks = [ask_of(bucket, 0, extra, wall) for bucket, extra in extras if extra]
        if not asks:
            return
        tenant.touched = now
        tenant.asking += 1
        for bucket in buckets:
            bucket.asking = True
        try:
            said = await self._limits.reserve(tenant.id, self._worker, asks)
        except StoreUnavailable:
            doubt(tenant)
            return
        finally:
            tenant.asking -= 1
            for bucket in buckets:
                bucket.asking = False
        if said.refused is None:
            for bucket, grant in zip(buckets, said.grants, strict=True):
                received(bucket, grant, grant.taken, now, wall)
                self._settlement.leased.add(bucket)
                if bucket.alerts:
                    self._alerts.look(bucket)

    async def _flushing(self) -> None:
        wake = self._settlement.wake
        while True:
            try:
                async with asyncio.timeout(self._flush_s * self._rng.uniform(0.9, 1.1)):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            await self.flush()

    async def _fetching(self) -> None:
        while True:
            await self._thirst.wait()
            self._thirst.clear()
            await self.fetch()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds * self._rng.uniform(0.9, 1.1))
            await self._quietly(work)

    async def _quietly(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreUnavailable:
            logger.debug("a store is down: limits are settled later")


def amounts_of(tokens: int, cost_usd: float | None) -> Amounts:
    """What a request takes of each kind of bucket: at least one, so that one that is used up refuses."""
    nano = ceil(cost_usd * NANO) if cost_usd else 1
    tokens = tokens if tokens > 0 else 1
    return (1, tokens, 1, nano if nano > 0 else 1, tokens)
