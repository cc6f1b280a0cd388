"""Warnings when a budget crosses a share of itself: once a period and share, over all workers.

Who may warn is decided by the store: a bucket with room for one, which only one worker can take.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from routeiq.access.principal import Rule
from routeiq.ports import Clock
from routeiq.stores import Ask, Limits

from .buckets import Bucket
from .periods import GRACE_S

OnAlert = Callable[[Rule, float, int], None]
QUEUE = 10_000
logger = logging.getLogger("routeiq.access")


class Alerts:
    """Notes crossings on the request path and warns of them later."""

    def __init__(
        self, limits: Limits, on_alert: OnAlert | None, *, worker: str, clock: Clock
    ) -> None:
        self._limits = limits
        self._on_alert = on_alert
        self._worker = worker
        self._clock = clock
        self._queue: deque[tuple[Bucket, Rule, float, int]] = deque(maxlen=QUEUE)

    def look(self, bucket: Bucket) -> None:
        """Note which shares were crossed; leases are not spent yet."""
        used = bucket.used - bucket.lease
        while bucket.alerts and used >= bucket.alerts[0] * bucket.limit:
            self._queue.append((bucket, bucket.rule, bucket.alerts[0], used))
            bucket.alerts = bucket.alerts[1:]

    async def flush(self) -> None:
        """Warn, unless another worker did.

        Raises:
            StoreUnavailable: the rest is kept.
        """
        while self._queue:
            bucket, rule, share, used = self._queue[0]
            if await self._first(bucket, rule, share) and self._on_alert is not None:
                try:
                    self._on_alert(rule, share, used)
                except Exception:
                    logger.exception("a budget's alert could not be delivered")
            self._queue.popleft()

    async def _first(self, bucket: Bucket, rule: Rule, share: float) -> bool:
        keep_s = GRACE_S if bucket.span is None else bucket.span.keep_s(self._clock.wall())
        name = f"alert:{bucket.name}:{share:g}:{rule.limit}"
        ask = Ask(bucket=name, kind="period", limit=1, amount=1, keep_s=keep_s)
        said = await self._limits.reserve(bucket.tenant.id, self._worker, [ask])
        return said.refused is None
