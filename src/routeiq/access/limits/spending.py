"""What was spent, kept where it survives the loss of the fast store.

One group of counters for each tenant and period, `spend:<tenant>:<period>`, so that old ones can be deleted whole;
its fields are the budgets. Only what requests really cost is written, never estimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Counters

from .buckets import Bucket, Tenant
from .periods import Span, span_of

KEPT = 2
"""The group of the period before the last one is deleted when a new period is met."""


class Spending:
    """Adds up spending of this worker, and writes it in batches that count once however often they are sent."""

    def __init__(self, counters: Counters, *, worker: str, clock: Clock) -> None:
        self._counters = counters
        self._worker = worker
        self._clock = clock
        self._dirty: set[Bucket] = set()
        self._seqs: dict[str, int] = {}
        self._sending: dict[str, Mapping[str, int]] = {}
        self._writing: set[str] = set()

    def note(self, bucket: Bucket, amount: int) -> None:
        """A request cost this much of a budget."""
        bucket.spent += amount
        self._dirty.add(bucket)

    async def flush(self) -> None:
        """Write what was not written yet.

        Raises:
            StoreUnavailable: the rest is kept and sent again.
        """
        names = {group_name(bucket) for bucket in self._dirty} | set(self._sending)
        for name in sorted(names):
            await self._write(name)

    async def read(self, tenant: Tenant, spans: Iterable[Span]) -> dict[str, int]:
        """What was spent in these periods by bucket, with all that this worker knows.

        Raises:
            StoreUnavailable: nobody knows.
        """
        found: dict[str, int] = {}
        for span in spans:
            name = f"spend:{tenant.id}:{span.name}"
            await self._write(name)
            for field, amount in (await self._counters.read(name)).items():
                found[f"{field}:{span.name}"] = max(amount, 0)
            await self._forget_old(tenant, span)
        return found

    async def _write(self, name: str) -> None:
        if name in self._writing:
            return
        self._writing.add(name)
        try:
            if name in self._sending:  # whether it arrived is not known: the same again first
                await self._send(name)
            self._gather(name)
            if name in self._sending:
                await self._send(name)
        finally:
            self._writing.discard(name)

    async def _send(self, name: str) -> None:
        await self._counters.apply(name, self._worker, self._seqs[name], self._sending[name])
        del self._sending[name]

    def _gather(self, name: str) -> None:
        fields: dict[str, int] = {}
        for bucket in [bucket for bucket in self._dirty if group_name(bucket) == name]:
            self._dirty.discard(bucket)
            amount, bucket.spent = bucket.spent, 0
            if amount:
                field = field_name(bucket)
                fields[field] = fields.get(field, 0) + amount
        if fields:
            self._seqs[name] = self._seqs.get(name, 0) + 1
            self._sending[name] = fields

    async def _forget_old(self, tenant: Tenant, span: Span) -> None:
        kind = span.name.partition(":")[0]
        for per in ("day", "week", "month"):
            if per != kind:
                continue
            old = span
            for _ in range(KEPT):
                old = span_of(per, old.start - 1.0)
            name = f"spend:{tenant.id}:{old.name}"
            self._seqs.pop(name, None)
            try:
                await self._counters.delete(name)
            except StoreUnavailable:
                return  # a few rows stay


def group_name(bucket: Bucket) -> str:
    """The group of counters that a budget's bucket is in."""
    return f"spend:{bucket.tenant.id}:{_span(bucket).name}"


def field_name(bucket: Bucket) -> str:
    """The field of a budget's bucket: its name without the period."""
    return bucket.name.removesuffix(f":{_span(bucket).name}")


def _span(bucket: Bucket) -> Span:
    if bucket.span is None:
        raise TypeError(f"{bucket.name} is no budget")
    return bucket.span
