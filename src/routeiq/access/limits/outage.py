"""While the store is down: limits that fail closed refuse, those that fail open are counted by each worker alone.

A worker alone admits in a minute, or at once, what the limit allows: so a request that is within the limit of
all workers together is never refused. Of a budget it gives its share of what was left when the store went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .buckets import LOCAL, SLOTS, WINDOW_S, Amounts, Bucket, Take
from .errors import UNAVAILABLE_RETRY_S, refusal, unavailable


class Outage:
    """Admits without a store. `workers` says how many workers of the fleet are known."""

    def __init__(self, workers: Callable[[], int]) -> None:
        self._workers = workers

    def take(
        self, buckets: Sequence[Bucket], amounts: Amounts, now: float, wall: float
    ) -> list[Take]:
        """Take from all or from none.

        Raises:
            StateUnavailable: one fails closed.
            RateLimitExceeded: one is used up even so.
        """
        for bucket in buckets:
            if bucket.rule.fail == "closed":
                raise unavailable(bucket)
        for bucket in buckets:
            self._check(bucket, amounts[bucket.measure], now, wall)
        takes: list[Take] = []
        for bucket in buckets:
            amount = amounts[bucket.measure]
            if bucket.measure == SLOTS:
                bucket.held += amount
            else:
                bucket.outage_taken += amount
            takes.append((bucket, amount, LOCAL))
        return takes

    def _check(self, bucket: Bucket, amount: int, now: float, wall: float) -> None:
        if bucket.measure == SLOTS:
            if bucket.in_use + amount > bucket.limit:
                raise refusal(bucket, amount, UNAVAILABLE_RETRY_S, wall)
            return
        began = bucket.outage_at
        if began is None or (bucket.span is None and now - began >= WINDOW_S):
            bucket.outage_at = began = now
            bucket.outage_taken = 0
            bucket.outage_room = self._room(bucket)
        if bucket.outage_taken + amount > bucket.outage_room:
            raise refusal(bucket, amount, max(began + WINDOW_S - now, 0.001), wall)

    def _room(self, bucket: Bucket) -> int:
        if bucket.span is None:
            return bucket.limit
        return max(bucket.limit - bucket.used, 0) // max(self._workers(), 1)
