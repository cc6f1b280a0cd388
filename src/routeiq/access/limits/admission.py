"""Admission of a request whose buckets are not all leased: one round trip for all that are lacking."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from routeiq.access.principal import Principal
from routeiq.exceptions import RateLimitExceeded, StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Ask, Limits, Reservation

from .alerts import Alerts
from .buckets import REQUESTS, SLOTS, Amounts, Bucket, Take, Tenant, Ticket
from .errors import refusal, unavailable
from .headers import headers_of
from .leases import give_back, received, returned, wanted
from .outage import Outage
from .plans import Plan, Plans
from .recovery import Recovery, doubt, unready
from .settlement import Settlement

REMEMBER_S = 0.25
"""How long a refusal by tokens or by a budget is remembered: settlements may free some at any time."""
REMEMBER_REQUESTS_S = 1.0
"""The same by requests: only unused leases come back."""
REMEMBER_SLOTS_S = 0.05
"""The same by slots."""


class Admission:
    """The paths that ask the store."""

    def __init__(
        self,
        limits: Limits,
        *,
        plans: Plans,
        recovery: Recovery,
        settlement: Settlement,
        outage: Outage,
        alerts: Alerts,
        worker: str,
        clock: Clock,
    ) -> None:
        self._limits = limits
        self._plans = plans
        self._recovery = recovery
        self._settlement = settlement
        self._outage = outage
        self._alerts = alerts
        self._worker = worker
        self._clock = clock

    def refuse(self, plan: Plan, bucket: Bucket, amount: int, now: float) -> RateLimitExceeded:
        """The error for a bucket, with the headers of all."""
        error = refusal(bucket, amount, max(bucket.retry_at - now, 0.001), self._clock.wall())
        error.headers = tuple(headers_of(plan.buckets, now))
        return error

    def known(self, plan: Plan, amounts: Amounts, now: float) -> RateLimitExceeded | None:
        """Why this cannot be had, as far as that is known without asking."""
        for bucket in plan.buckets:
            amount = amounts[bucket.measure]
            if not bucket.covers(amount, now) and refuses(bucket, amount, now):
                return self.refuse(plan, bucket, amount, now)
        return None

    async def admit(self, principal: Principal, amounts: Amounts) -> Ticket:
        """Take from every bucket or from none.

        Raises:
            RateLimitExceeded, BudgetExceeded: one is used up.
            StateUnavailable: one fails closed and cannot be checked.
        """
        ticket = await self._once(principal, amounts, last=False)
        if ticket is None:
            ticket = await self._once(principal, amounts, last=True)
        if ticket is None:  # the last try raises instead
            raise StoreUnavailable("A limit could not be checked.")
        return ticket

    async def _once(self, principal: Principal, amounts: Amounts, *, last: bool) -> Ticket | None:
        plan = self._plans.of(principal)
        try:
            await self._prepare(plan, amounts)
        except StoreUnavailable:
            doubt(plan.tenant)
        clock = self._clock
        plan, now = self._plans.of(principal), clock.monotonic()
        error = self.known(plan, amounts, now)
        if error is not None:
            raise error
        takes, lacking = _local(plan, amounts, now)
        try:
            said = await self._ask(plan.tenant, lacking, amounts, now) if lacking else None
        except StoreUnavailable:
            doubt(plan.tenant)
            self._settlement.owed(plan.tenant)
            takes += self._alone(plan, takes, lacking, amounts)
            return self._ticket(plan, takes)
        except BaseException:
            self._undo(plan, takes)
            raise
        if said is None:
            return self._ticket(plan, takes)
        if said.refused is None:
            takes += self._granted(lacking, amounts, said, now)
            return self._ticket(plan, takes)
        self._undo(plan, takes)
        bucket = self._note(lacking, amounts, said, now)
        if not last and await self._give_back(bucket):
            return None
        raise self.refuse(plan, bucket, amounts[bucket.measure], clock.monotonic())

    async def _prepare(self, plan: Plan, amounts: Amounts) -> None:
        now = self._clock.monotonic()
        lacking = [b for b in plan.buckets if not b.covers(amounts[b.measure], now)]
        for _ in range(2):  # what is under way may have begun before one of these was met
            if not unready(lacking):
                return
            if not await self._recovery.prepare(plan.tenant):
                break
        for bucket in lacking:
            if not bucket.ready and bucket.rule.fail == "closed":
                raise unavailable(bucket)

    async def _ask(
        self, tenant: Tenant, lacking: Sequence[Bucket], amounts: Amounts, now: float
    ) -> Reservation:
        wall = self._clock.wall()
        asks = []
        for bucket in lacking:
            amount = amounts[bucket.measure]
            asks.append(ask_of(bucket, amount, wanted(bucket, amount, now), wall))
            bucket.asking = True
        tenant.asking += 1
        task = asyncio.ensure_future(self._limits.reserve(tenant.id, self._worker, asks))
        try:
            # A client that leaves must not leave behind what it had reserved: the answer is awaited.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._unwanted(tenant, lacking, done))
            raise
        finally:
            tenant.asking -= 1
            for bucket in lacking:
                bucket.asking = False

    def _unwanted(
        self, tenant: Tenant, lacking: Sequence[Bucket], task: asyncio.Task[Reservation]
    ) -> None:
        if task.cancelled():
            return
        if task.exception() is not None:
            doubt(tenant)
        elif task.result().refused is None:
            for bucket, grant in zip(lacking, task.result().grants, strict=True):
                if bucket.measure == SLOTS:
                    bucket.held += grant.taken
                    bucket.lease += grant.taken
                else:
                    tenant.owe(bucket, grant.window, -grant.taken)
        self._settlement.owed(tenant)

    def _granted(
        self, lacking: Sequence[Bucket], amounts: Amounts, said: Reservation, asked_at: float
    ) -> list[Take]:
        wall = self._clock.wall()
        takes: list[Take] = []
        for bucket, grant in zip(lacking, said.grants, strict=True):
            amount = amounts[bucket.measure]
            received(bucket, grant, grant.taken - amount, asked_at, wall)
            bucket.took += amount
            bucket.times += 1
            if bucket.measure == SLOTS:
                self._settlement.holders.add(bucket.tenant)
            elif bucket.lease:
                self._settlement.leased.add(bucket)
            if bucket.alerts:
                self._alerts.look(bucket)
            window = bucket.lease_window if bucket.span is not None else grant.window
            takes.append((bucket, amount, window))
        if lacking[0].tenant.pending:  # leases of a window that is over
            self._settlement.owed(lacking[0].tenant)
        return takes

    def _note(
        self, lacking: Sequence[Bucket], amounts: Amounts, said: Reservation, now: float
    ) -> Bucket:
        """Remember a refusal; the bucket it came from."""
        for bucket, grant in zip(lacking, said.grants, strict=True):
            received(bucket, grant, 0, now, 0.0)
        bucket = lacking[said.refused or 0]
        amount = amounts[bucket.measure]
        wait = said.retry_after_s
        if bucket.span is not None:
            wait = bucket.span.left_s(self._clock.wall())
        bucket.retry_at = now + wait
        most = REMEMBER_S
        if bucket.measure in (REQUESTS, SLOTS):
            most = REMEMBER_REQUESTS_S if bucket.measure == REQUESTS else REMEMBER_SLOTS_S
        bucket.refused_until = now + min(wait, most)
        bucket.refused_amount = 1 if bucket.used >= bucket.limit else amount
        return bucket

    async def _give_back(self, bucket: Bucket) -> bool:
        """Give back what this worker has of a bucket that refused; whether that may change the answer."""
        give_back(bucket)
        tenant = bucket.tenant
        if not any(amount < 0 for (owed, _), amount in tenant.pending.items() if owed is bucket):
            return False
        if not await self._settlement.send(tenant):
            return False
        bucket.refused_until = self._clock.monotonic()
        return True

    def _alone(
        self, plan: Plan, takes: list[Take], lacking: Sequence[Bucket], amounts: Amounts
    ) -> list[Take]:
        now = self._clock.monotonic()
        try:
            alone = self._outage.take(lacking, amounts, now, self._clock.wall())
        except Exception as error:
            self._undo(plan, takes)
            if isinstance(error, RateLimitExceeded):
                error.headers = tuple(headers_of(plan.buckets, now))
            raise
        if any(bucket.measure == SLOTS for bucket in lacking):
            self._settlement.holders.add(plan.tenant)
        return alone

    def _undo(self, plan: Plan, takes: list[Take]) -> None:
        for bucket, amount, window in takes:
            returned(bucket, amount, window)
        if plan.tenant.pending:
            self._settlement.owed(plan.tenant)

    def _ticket(self, plan: Plan, takes: list[Take]) -> Ticket:
        plan.tenant.open += 1
        plan.tenant.touched = self._clock.monotonic()
        return Ticket(plan.tenant, takes)


def refuses(bucket: Bucket, amount: int, now: float) -> bool:
    """Whether a bucket without a lease is known to refuse."""
    if amount > bucket.limit:
        return True
    if bucket.measure == SLOTS and bucket.in_use >= bucket.limit:
        bucket.retry_at = now + 1.0
        return True
    return now < bucket.refused_until and amount >= bucket.refused_amount


def ask_of(bucket: Bucket, amount: int, extra: int, wall: float) -> Ask:
    """What to ask the store for."""
    return Ask(
        bucket=bucket.key,
        kind=bucket.kind,
        limit=bucket.limit,
        amount=amount,
        extra=extra,
        keep_s=0.0 if bucket.span is None else bucket.span.keep_s(wall),
        seed=bucket.seed,
    )


def _local(plan: Plan, amounts: Amounts, now: float) -> tuple[list[Take], list[Bucket]]:
    takes: list[Take] = []
    lacking: list[Bucket] = []
    for bucket in plan.buckets:
        amount = amounts[bucket.measure]
        if bucket.covers(amount, now):
            bucket.lease -= amount
            bucket.took += amount
            bucket.times += 1
            takes.append((bucket, amount, bucket.lease_window))
        else:
            lacking.append(bucket)
    return takes, lacking
