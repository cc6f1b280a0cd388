"""What a worker knows of one bucket, and of a tenant: all buckets that are counted together."""

from __future__ import annotations

from asyncio import Task
from math import inf

from routeiq.access.principal import Rule, RuleKind
from routeiq.stores import BucketKind, Delta

from .periods import Span

REQUESTS, TOKENS, SLOTS, USD, SPEND_TOKENS = range(5)
"""What a bucket counts: the place in the amounts of a request."""
Amounts = tuple[int, int, int, int, int]
WINDOW_S = 60.0
NEVER = -1.0

_MEASURES: dict[RuleKind, tuple[int, BucketKind]] = {
    "requests": (REQUESTS, "window"),
    "tokens": (TOKENS, "window"),
    "concurrent": (SLOTS, "slots"),
    "spend_usd": (USD, "period"),
    "spend_tokens": (SPEND_TOKENS, "period"),
}


class Bucket:
    """One limit as this worker sees it. Hashed by identity; its times are monotonic.

    `lease` is what was taken from the store and not used yet (of slots: those that came free and were not given
    back yet), usable until `lease_until` and debited to `lease_window`: for a period that is how often the store
    lost it. Below `low` more is fetched, according to `took` (in `times` requests since `mark`; `rate` and `pace`
    are those of the second before). `used` is what the store said last, with what this worker settled since,
    `held` counts this worker's slots. `ready`: it is known what was spent before, and `seed` is that until the
    store knows it too.
    `spent` is what the durable counters were not told yet. Since `outage_at` this worker counts alone: of
    `outage_room` it gave `outage_taken`.
    """

    __slots__ = (
        "alerts",
        "asking",
        "held",
        "kind",
        "lease",
        "lease_until",
        "lease_window",
        "limit",
        "low",
        "mark",
        "measure",
        "name",
        "outage_at",
        "outage_room",
        "outage_taken",
        "pace",
        "rate",
        "ready",
        "refused_amount",
        "refused_until",
        "reset_at",
        "retry_at",
        "rule",
        "seed",
        "span",
        "spent",
        "tenant",
        "times",
        "took",
        "used",
    )

    def __init__(self, tenant: Tenant, name: str, rule: Rule, span: Span | None) -> None:
        self.tenant = tenant
        self.name = name
        self.span = span
        self.measure, self.kind = _MEASURES[rule.kind]
        self.lease = self.held = self.used = self.spent = 0
        self.lease_window = 0
        self.lease_until = inf if self.kind == "slots" else NEVER
        self.low = -1
        self.asking = False
        self.took, self.times, self.mark = 0, 0, NEVER
        self.rate = self.pace = 0.0
        self.refused_until = self.retry_at = self.reset_at = NEVER
        self.refused_amount = 1
        self.ready = self.kind != "period"
        self.seed = 0
        self.outage_at: float | None = None
        self.outage_room = self.outage_taken = 0
        self._set_rule(rule)

    def follow(self, rule: Rule) -> None:
        """Count against this rule from now on: an admin may have changed the limit."""
        if rule != self.rule:
            self._set_rule(rule)
            self.refused_until = NEVER

    def _set_rule(self, rule: Rule) -> None:
        self.rule = rule
        self.limit = rule.limit
        self.alerts: tuple[float, ...] = tuple(sorted(set(rule.alert_at)))

    @property
    def key(self) -> str:
        """Its name in the store. A store that lost its data is another one: nothing of before is added to it."""
        epoch = self.tenant.epoch
        return self.name if epoch is None or self.span is None else f"{self.name}@{epoch}"

    @property
    def busy(self) -> bool:
        """Whether something would be lost if it were forgotten."""
        return bool(self.lease or self.held or self.spent or self.asking)

    def covers(self, amount: int, now: float) -> bool:
        """Whether the lease has this much."""
        return self.lease >= amount and now < self.lease_until

    @property
    def in_use(self) -> int:
        """This worker's requests that hold a slot."""
        return self.held - self.lease

    def left(self) -> int:
        """What this worker knows to be left: its own lease is."""
        if self.outage_at is not None:
            return max(self.outage_room - self.outage_taken, 0)
        return max(self.limit - self.used + self.lease, 0)


class Tenant:
    """The buckets that one script of the store sees together, and what the store was not told yet.

    `pending` sums up by bucket and window, `sending` is the batch that was sent and not answered. `doubt`: the
    store failed since it was heard of last. `epoch` is the store's mark, which another store would not have.
    `open` counts tickets that are not settled, `asking` requests that wait for the store.
    """

    __slots__ = (
        "asking",
        "buckets",
        "doubt",
        "epoch",
        "flushing",
        "id",
        "open",
        "pending",
        "plans",
        "preparing",
        "sending",
        "seq",
        "touched",
    )

    def __init__(self, id: str, seq: int, now: float) -> None:
        self.id = id
        self.buckets: dict[str, Bucket] = {}
        self.pending: dict[tuple[Bucket, int], int] = {}
        self.sending: tuple[Delta, ...] | None = None
        self.seq = seq
        self.doubt = False
        self.epoch: int | None = None
        self.preparing: Task[bool] | None = None
        self.flushing = False
        self.asking = self.open = 0
        self.plans: set[int] = set()
        self.touched = now

    @property
    def busy(self) -> bool:
        """Whether something would be lost if it were forgotten."""
        if self.pending or self.sending or self.flushing or self.asking or self.open:
            return True
        return any(bucket.busy for bucket in self.buckets.values())

    def owe(self, bucket: Bucket, window: int, amount: int) -> None:
        """Tell the store some time that `amount` more was taken (negative: less); sums up by bucket."""
        key = (bucket, window)
        total = self.pending.get(key, 0) + amount
        if total:
            self.pending[key] = total
        else:
            self.pending.pop(key, None)


Take = tuple[Bucket, int, int]
"""A bucket, the amount, and the window it was debited to."""


class Ticket:
    """What one request was granted; settled once."""

    __slots__ = ("done", "takes", "tenant")

    def __init__(self, tenant: Tenant | None, takes: list[Take]) -> None:
        self.tenant = tenant
        self.takes = takes
        self.done = tenant is None


LOCAL = -1
"""The window of what was admitted while the store was down: the store never counted it."""
NO_LIMITS = Ticket(None, [])
"""Shared by all requests that nothing limits."""
