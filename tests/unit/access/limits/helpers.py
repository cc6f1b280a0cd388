"""Stores that count their calls and can be stopped, and principals with rules."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from routeiq.access.limits import Limiter, Ticket
from routeiq.access.limits.alerts import OnAlert
from routeiq.access.principal import Principal, Rule, RuleKind
from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.state.memory.counters import MemoryCounters
from routeiq.state.memory.limits import MemoryLimits
from routeiq.stores import NANO, Ask, Delta, Reservation
from tests.support.clock import FakeClock

Per = Literal["minute", "day", "week", "month", "total"]


class Store(MemoryLimits):
    """`down`: not carried out; `mute`: carried out, not answered; `gate`: waits."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.reserves = self.adjusts = 0
        self.asked: list[Sequence[Ask]] = []
        self.down = self.mute = False
        self.gate: asyncio.Event | None = None
        self.kept: list[str] = []

    def lose(self) -> None:
        """Forget everything, as Redis without persistence does."""
        self._tenants.clear()
        self._seqs.clear()

    def taken(self, tenant: str, bucket: str) -> int:
        """Of a bucket, whichever epoch its name in the store has."""
        buckets = self._tenants.get(tenant, {})
        found = [cells for name, cells in buckets.items() if name.partition("@")[0] == bucket]
        return sum(cell.taken for cells in found for cell in cells.values())

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        self.reserves += 1
        self.asked.append(asks)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        self._fail()
        said = await super().reserve(tenant, worker, asks)
        self._mute()
        return said

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        self.adjusts += 1
        await asyncio.sleep(0)
        self._fail()
        await super().adjust(tenant, worker, seq, deltas)
        self._mute()

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        self._fail()
        self.kept.append(worker)
        await super().keep_slots(tenant, worker, ttl_s)

    def _fail(self) -> None:
        if self.down:
            raise StoreUnavailable("down")

    def _mute(self) -> None:
        if self.mute:
            raise StoreUnavailable("no answer")


class Counts(MemoryCounters):
    """`down`: not carried out; `mute`: carried out, not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.mute = False
        self.reads = 0

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        if self.down:
            raise StoreUnavailable("down")
        await super().apply(name, worker, seq, deltas)
        if self.mute:
            raise StoreUnavailable("no answer")

    async def read(self, name: str) -> Mapping[str, int]:
        if self.down:
            raise StoreUnavailable("down")
        self.reads += 1
        return await super().read(name)


def rule(
    kind: RuleKind,
    limit: int,
    per: Per | None = None,
    *,
    scope: str = "key:k1",
    fail: Literal["open", "closed"] = "open",
    alert_at: tuple[float, ...] = (),
) -> Rule:
    if per is None and kind in ("requests", "tokens"):
        per = "minute"
    return Rule(scope=scope, kind=kind, limit=limit, per=per, fail=fail, alert_at=alert_at)


def usd(amount: float) -> int:
    return round(amount * NANO)


def caller(*rules: Rule, tenant: str = "team:t1") -> Principal:
    return Principal(alias="app", key_id="k1", tenant=tenant, rules=rules)


def limiter(
    store: Store,
    clock: FakeClock,
    worker: str = "w1",
    *,
    spending: Counts | None = None,
    workers: int = 1,
    on_alert: OnAlert | None = None,
) -> Limiter:
    return Limiter(
        limits=store,
        spending=spending,
        clock=clock,
        worker=worker,
        workers=workers,
        on_alert=on_alert,
    )


async def take(
    limits: Limiter, principal: Principal, *, tokens: int = 10, cost: float | None = 0.01
) -> Ticket:
    """As the gateway does."""
    limits.check(principal)
    ticket = limits.admit(principal, tokens=tokens, cost_usd=cost)
    if ticket is None:
        ticket = await limits.admit_slowly(principal, tokens=tokens, cost_usd=cost)
    return ticket


def done(
    limits: Limiter,
    ticket: Ticket,
    *,
    tokens: int | None = 10,
    cost: float | None = 0.01,
    answered: bool = True,
) -> None:
    limits.settle(ticket, tokens=tokens, cost_usd=cost, answered=answered)
