"""The `x-ratelimit-*` headers, as OpenAI sends them, from the level that has least left."""

from __future__ import annotations

from collections.abc import Iterable

from routeiq.ports import Header

from .buckets import REQUESTS, TOKENS, Bucket
from .errors import duration

_NAMES = {REQUESTS: b"requests", TOKENS: b"tokens"}


def headers_of(buckets: Iterable[Bucket], now: float) -> list[Header]:
    """Limit, remaining and reset of requests and of tokens; nothing where there is no such limit."""
    tightest: dict[int, Bucket] = {}
    for bucket in buckets:
        measure = bucket.measure
        if measure in _NAMES:
            other = tightest.get(measure)
            if other is None or bucket.left() < other.left():
                tightest[measure] = bucket
    found: list[Header] = []
    for measure, bucket in sorted(tightest.items()):
        name = _NAMES[measure]
        reset = duration(max(bucket.reset_at - now, 0.0)).encode()
        found += (
            (b"x-ratelimit-limit-" + name, b"%d" % bucket.limit),
            (b"x-ratelimit-remaining-" + name, b"%d" % bucket.left()),
            (b"x-ratelimit-reset-" + name, reset),
        )
    return found
