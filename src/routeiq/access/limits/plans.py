"""From a principal's rules to the buckets that a request of it takes from, remembered per principal."""

from __future__ import annotations

from collections import deque
from math import inf

from routeiq.access.principal import Principal, Rule
from routeiq.ports import Clock

from .buckets import Bucket, Tenant
from .periods import Span, span_of

PLANS_PER_TENANT = 1024
IDLE_S = 120.0
"""A tenant that nobody used for so long is forgotten; the store knows what it used."""


class Plan:
    """A principal's buckets; those of periods hold from `start` until `end` (wall clock)."""

    __slots__ = ("buckets", "end", "principal", "start", "tenant")

    def __init__(self, principal: Principal, tenant: Tenant, buckets: tuple[Bucket, ...]) -> None:
        spans = [bucket.span for bucket in buckets if bucket.span is not None]
        self.principal = principal  # keeps its id() from being used again
        self.tenant = tenant
        self.buckets = buckets
        self.start = max((span.start for span in spans), default=-inf)
        self.end = min((span.end for span in spans), default=inf)


class Plans:
    """Plans by the identity of their principal, and the tenants they belong to."""

    def __init__(self, clock: Clock) -> None:
        self.known: dict[int, Plan] = {}
        self.tenants: dict[str, Tenant] = {}
        self._clock = clock
        self._seqs: dict[str, int] = {}
        self._queue: deque[Tenant] = deque()

    def of(self, principal: Principal) -> Plan:
        """The plan for now; made anew when a period ended (or the wall clock jumped out of it)."""
        plan = self.known.get(id(principal))
        wall = self._clock.wall()
        if plan is not None and plan.start <= wall < plan.end:
            return plan
        tenant = self._tenant(principal.tenant or principal.alias)
        buckets = tuple(self._bucket(tenant, rule, wall) for rule in principal.rules)
        plan = Plan(principal, tenant, buckets)
        if len(tenant.plans) >= PLANS_PER_TENANT:
            self._drop_plans(tenant)
        self.known[id(principal)] = plan
        tenant.plans.add(id(principal))
        return plan

    def sweep(self, most: int = 50) -> None:
        """Forget some of what nobody uses; called often, does little each time."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        for _ in range(min(most, len(self._queue))):
            tenant = self._queue.popleft()
            if now - tenant.touched > IDLE_S and not tenant.busy:
                self._drop_plans(tenant)
                self._seqs[tenant.id] = tenant.seq
                del self.tenants[tenant.id]
                continue
            self._queue.append(tenant)
            for name, bucket in list(tenant.buckets.items()):
                if bucket.span is not None and bucket.span.end <= wall and not bucket.busy:
                    del tenant.buckets[name]

    def _tenant(self, id: str) -> Tenant:
        tenant = self.tenants.get(id)
        if tenant is None:
            # The store has seen this worker's batches: their numbers must go on.
            tenant = Tenant(id, self._seqs.pop(id, 0), self._clock.monotonic())
            self.tenants[id] = tenant
            self._queue.append(tenant)
        tenant.touched = self._clock.monotonic()
        return tenant

    def _bucket(self, tenant: Tenant, rule: Rule, wall: float) -> Bucket:
        name, span = bucket_name(rule, wall)
        bucket = tenant.buckets.get(name)
        if bucket is None:
            bucket = tenant.buckets[name] = Bucket(tenant, name, rule, span)
            bucket.mark = self._clock.monotonic()
        else:
            bucket.follow(rule)
        return bucket

    def _drop_plans(self, tenant: Tenant) -> None:
        for known in tenant.plans:
            self.known.pop(known, None)
        tenant.plans.clear()


def bucket_name(rule: Rule, wall: float) -> tuple[str, Span | None]:
    """A rule's bucket at this time: its scope, what it counts and, for budgets, the period."""
    name = f"{rule.scope}:{rule.kind}"
    if rule.per is None or rule.per == "minute":
        return name, None
    span = span_of(rule.per, wall)
    return f"{name}:{span.name}", span
