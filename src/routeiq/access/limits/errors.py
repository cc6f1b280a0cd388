"""What is said to whom a limit refuses, in OpenAI's words where OpenAI has some. Names the level, never a name."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil, inf

from routeiq.exceptions import BudgetExceeded, RateLimitExceeded, StateUnavailable
from routeiq.stores import NANO

from .buckets import REQUESTS, SLOTS, TOKENS, USD, Bucket

_NAMES = {
    REQUESTS: "requests per minute (RPM)",
    TOKENS: "tokens per minute (TPM)",
    SLOTS: "concurrent requests",
}
_PERIODS = {"day": "daily", "week": "weekly", "month": "monthly", "total": "total"}
UNAVAILABLE_RETRY_S = 1.0


def refusal(bucket: Bucket, amount: int, retry_after_s: float, wall: float) -> RateLimitExceeded:
    """Why a request that wants `amount` of this bucket cannot be had now."""
    if bucket.span is not None:
        return _budget(bucket, amount, wall)
    level, name = bucket.rule.scope.partition(":")[0], _NAMES[bucket.measure]
    said = f"Rate limit reached for {name} of this {level}: limit {bucket.limit}"
    if amount > bucket.limit:
        return RateLimitExceeded(
            f"Request too large for {name} of this {level}: limit {bucket.limit}, "
            f"requested {amount}. Reduce the input or `max_tokens`."
        )
    used = bucket.in_use if bucket.measure == SLOTS else bucket.used
    if bucket.measure != SLOTS or used >= bucket.limit:
        said += f", used {min(max(used, 0), bucket.limit)}"
    if bucket.measure == TOKENS:
        said += f", requested {amount}"
    return RateLimitExceeded(
        f"{said}. Please try again in {duration(retry_after_s)}.", retry_after_s=retry_after_s
    )


def unavailable(bucket: Bucket) -> StateUnavailable:
    """A limit that fails closed cannot be checked."""
    kind = "budget" if bucket.span is not None else "rate limit"
    level = bucket.rule.scope.partition(":")[0]
    return StateUnavailable(
        f"A {kind} of this {level} cannot be checked at the moment. Please try again.",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


def duration(seconds: float) -> str:
    """As OpenAI writes them: `6ms`, `1.2s`, `1m30s`, `2h0m5s`."""
    if seconds < 1.0:
        milliseconds = max(ceil(seconds * 1e3), 0)
        return f"{milliseconds}ms" if milliseconds < 1000 else "1s"
    if seconds < 60.0:
        tenths = ceil(round(seconds * 10, 6)) / 10
        return f"{tenths:g}s" if tenths < 60.0 else "1m0s"
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def money(nano: int) -> str:
    """Nano-USD in USD, at least two places and no more than it needs."""
    whole, rest = divmod(max(nano, 0), NANO)
    places = f"{rest:09d}".rstrip("0")
    return f"{whole}.{places:0<2}"


def _budget(bucket: Bucket, amount: int, wall: float) -> BudgetExceeded:
    span = bucket.span
    level, per = bucket.rule.scope.partition(":")[0], bucket.rule.per or "total"
    unit = "USD" if bucket.measure == USD else "tokens"
    show = money if bucket.measure == USD else str
    name = f"The {_PERIODS[per]} budget of this {level}"
    used = max(bucket.used, 0)
    if used >= bucket.limit:
        said = f"{name} is used up: limit {show(bucket.limit)} {unit}, used {show(used)} {unit}."
    else:
        said = (
            f"{name} has too little left for this request: limit {show(bucket.limit)} {unit}, "
            f"used {show(used)} {unit}, requested about {show(amount)} {unit}."
        )
    if span is None or span.end == inf:
        return BudgetExceeded(said)
    resets = datetime.fromtimestamp(span.end, UTC)
    said += f" It resets at {resets:%Y-%m-%dT%H:%M:%SZ}."
    retry_after_s = span.left_s(wall) if amount <= bucket.limit else None
    return BudgetExceeded(said, retry_after_s=retry_after_s)
