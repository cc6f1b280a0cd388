"""What a failed call means, whether to try again, and how long to wait."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import isfinite
from random import Random

from routeiq.exceptions import UpstreamError
from routeiq.ports import Clock, Header

CONTEXT_HINTS = (
    b"context_length_exceeded",
    b"maximum context length",
    b"context window",
    b"prompt is too long",
    b"reduce the length",
)
CONTENT_HINTS = (
    b"content_policy_violation",
    b"content_filter",
    b"content management policy",
    b"responsibleaipolicyviolation",
)
MODEL_HINTS = (b"model_not_found", b"deploymentnotfound", b"does not exist", b"model not found")
HINT_BYTES = 8192
"""How much of an error body is searched."""


class Verdict(StrEnum):
    """What came of a call.

    `retry` is the provider's trouble and may pass. `auth_error` is the operator's: key, account,
    permission, model name or address are refused there, so another deployment may do and this one will
    not. `client_error` is the caller's and passes through. The other two are about this request and have
    fallbacks of their own.
    """

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"
    RETRY = "retry"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    AUTH_ERROR = "auth_error"


COUNTED = frozenset({Verdict.RETRY, Verdict.AUTH_ERROR})
"""Verdicts that a circuit breaker counts as failures of the deployment."""

_RETRIED = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({401, 402, 403})
_REQUEST = frozenset({400, 403, 413, 422})


def classify(status: int | None, error: UpstreamError | None, body_hint: bytes = b"") -> Verdict:
    """The verdict on a call, from the provider's status and the beginning of its error body.

    A call without a status (no connection, cut, timed out) is `retry`; whether anything has already gone
    to the client, which would forbid it, is for the caller to know.
    """
    if error is not None or status is None or status in _RETRIED or status >= 500:
        return Verdict.RETRY
    if 200 <= status < 300:
        return Verdict.SUCCESS
    body = body_hint[:HINT_BYTES].lower()
    if status in _REQUEST:
        if any(hint in body for hint in CONTENT_HINTS):
            return Verdict.CONTENT_POLICY
        if any(hint in body for hint in CONTEXT_HINTS):
            return Verdict.CONTEXT_WINDOW
    missing = status == 404 and any(hint in body for hint in MODEL_HINTS)
    if status < 400 or status in _REFUSED or missing:  # a redirect: the address is not the API's
        return Verdict.AUTH_ERROR
    return Verdict.CLIENT_ERROR


def retry_after_s(headers: Sequence[Header], now: float) -> float | None:
    """Seconds that a provider asked to wait, from `retry-after-ms` or `Retry-After` (seconds or a date).

    `now` is the wall clock's. `None` where the headers say nothing usable.
    """
    for name, value in headers:
        text = value.decode("latin-1")
        seconds: float | None = None
        if name == b"retry-after-ms":
            seconds = _number(text, 1e-3)
        elif name == b"retry-after":
            seconds = _number(text, 1.0)
            if seconds is None:
                seconds = _until(text, now)
        if seconds is not None:
            return max(0.0, seconds)
    return None


def _number(text: str, unit: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value * unit if isfinite(value) else None


def _until(text: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None


class RetryPolicy:
    """Pauses between attempts: exponential with full jitter, so that clients do not come back together."""

    def __init__(
        self, *, base_s: float, max_s: float, minimum_s: float = 0.0, rng: Random | None = None
    ) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._minimum_s = minimum_s
        self._random = (rng or Random()).random

    def pause_s(self, used: int, retry_after_s: float | None = None) -> float | None:
        """Seconds to wait before the next attempt after `used` retries; `None` is to move on.

        What the provider asked for is waited, plus jitter, unless it is longer than the longest pause.
        """
        jitter = self._random() * min(self._max_s, self._base_s * 2.0 ** min(used, 32))
        if retry_after_s is None:
            return max(self._minimum_s, jitter)
        if retry_after_s > self._max_s:
            return None
        return max(self._minimum_s, min(self._max_s, retry_after_s + jitter))


class RetryBudget:
    """Retries as a share of requests, so that an outage is not made worse by retrying it.

    A bucket of tokens: each request adds `share`, each retry takes one. Beside that `FLOOR_PER_S` flow
    in, so that a quiet gateway can retry at all. At most `BURST` are saved. A share of 0 forbids retries.
    """

    BURST = 10.0
    FLOOR_PER_S = 1.0

    def __init__(self, *, share: float, clock: Clock) -> None:
        self._share = share
        self._monotonic = clock.monotonic
        self._tokens = self.BURST if share > 0.0 else 0.0
        self._filled_at = clock.monotonic()

    def request(self) -> None:
        """A request came in."""
        self._tokens = min(self.BURST, self._tokens + self._share)

    def take(self) -> bool:
        """Whether one retry may be made; if so it is paid for."""
        if self._share <= 0.0:
            return False
        now = self._monotonic()
        flowed = (now - self._filled_at) * self.FLOOR_PER_S
        self._tokens = min(self.BURST, self._tokens + flowed)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
