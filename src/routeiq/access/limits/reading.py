"""What is used of limits and budgets, for the admin API and for callers themselves."""

from __future__ import annotations

from math import inf

from routeiq.access.principal import Rule
from routeiq.ports import Clock
from routeiq.stores import Ask, Limits
from routeiq.values import value

from .buckets import WINDOW_S, Bucket
from .plans import Plan
from .recovery import MOST, Recovery


@value
class Usage:
    """One limit and what is used of it, estimates of requests under way and unused leases included.

    `reset_s` is when nothing is used any more if nobody uses it: `None` for slots and budgets that never end.
    """

    rule: Rule
    used: int
    reset_s: float | None = None
    resets_at: float | None = None

    @property
    def remaining(self) -> int:
        """What is left."""
        return max(self.rule.limit - self.used, 0)


class Reading:
    """Asks the store; never takes anything."""

    def __init__(self, limits: Limits, recovery: Recovery, *, worker: str, clock: Clock) -> None:
        self._limits = limits
        self._recovery = recovery
        self._worker = worker
        self._clock = clock

    async def usage(self, plan: Plan) -> list[Usage]:
        """Every bucket of a plan.

        Raises:
            StoreUnavailable: nobody knows.
        """
        tenant = plan.tenant.id
        if any(not bucket.ready for bucket in plan.buckets):
            await self._recovery.prepare(plan.tenant)
        windows = [bucket for bucket in plan.buckets if bucket.kind == "window"]
        others = {b.key: b.kind for b in plan.buckets if b.kind != "window"}
        taken = dict(await self._limits.usage(tenant, others)) if others else {}
        resets: dict[str, float] = {}
        if windows:
            asks = [_nothing_of(bucket) for bucket in windows]
            said = await self._limits.reserve(tenant, self._worker, asks)
            for bucket, grant in zip(windows, said.grants, strict=True):
                taken[bucket.key] = grant.used
                resets[bucket.name] = grant.reset_s
        return [self._usage(bucket, taken, resets) for bucket in plan.buckets]

    def _usage(self, bucket: Bucket, taken: dict[str, int], resets: dict[str, float]) -> Usage:
        used = max(taken.get(bucket.key, 0), bucket.seed)
        span = bucket.span
        if span is None:
            return Usage(rule=bucket.rule, used=used, reset_s=resets.get(bucket.name))
        if span.end == inf:
            return Usage(rule=bucket.rule, used=used)
        left_s = span.left_s(self._clock.wall())
        return Usage(rule=bucket.rule, used=used, reset_s=left_s, resets_at=span.end)


def _nothing_of(bucket: Bucket) -> Ask:
    """An ask that takes nothing: its answer says what is used and when it ends."""
    return Ask(bucket=bucket.name, kind="window", limit=MOST, amount=0, window_s=WINDOW_S)
