"""Response headers about a decision, rendered from what was carried out."""

from __future__ import annotations

from functools import lru_cache

from routeiq.gateway.trace import Trace
from routeiq.ports import Header
from routeiq.types import Decision

MAX_VALUE = 300
# RFC 9211. The cache has its own capability; until a request asks it, nothing was looked up.
CACHE_HEADERS: tuple[Header, ...] = (
    (b"x-routeiq-cache", b"bypass"),
    (b"cache-status", b"RouteIQ; fwd=bypass"),
)
_CONTROL = bytes([*range(0x20), 0x7F])


@lru_cache(maxsize=4096)  # the same few names and reasons, on every request
def safe(value: str) -> bytes:
    """A header value from text that a client or provider may have influenced: ASCII, bounded, no controls."""
    return value[:MAX_VALUE].encode("ascii", "replace").translate(None, _CONTROL)


def decision_headers(trace: Trace) -> list[Header]:
    """`x-routeiq-*`, `server-timing` and `cache-status` of a request that was routed."""
    decision = trace.decision
    if decision is None:
        return []
    total = trace.elapsed_ms()
    overhead = max(0.0, total - trace.upstream_ms)
    headers: list[Header] = [
        (b"x-routeiq-strategy", safe(decision.strategy)),
        (b"x-routeiq-reason", safe(reason(trace))),
        (b"x-routeiq-decision-id", decision.id.encode()),
        (b"x-routeiq-attempts", b"%d" % len(trace.attempts)),
        (b"x-routeiq-overhead-ms", b"%.3f" % overhead),
        (b"server-timing", server_timing(trace, total)),
        *CACHE_HEADERS,
    ]
    if trace.answered_by is not None:
        headers.append((b"x-routeiq-model", safe(trace.answered_by.group)))
        headers.append((b"x-routeiq-deployment", safe(trace.answered_by.id)))
    headers += trace.limit_headers
    request = trace.request
    if request is not None and request.experiment is not None:
        told = f"{request.experiment}={request.variant}"
        headers.append((b"x-routeiq-experiment", safe(told)))
    if trace.explain:
        headers += explanation(decision)
    if trace.cost_usd is not None:
        headers.append((b"x-routeiq-cost-usd", b"%.12f" % trace.cost_usd))
    return headers


def explanation(decision: Decision) -> list[Header]:
    """The scores of the best candidates and the probability of the choice, for clients that asked."""
    best: dict[str, float] = {}
    for ranked in decision.ranking:
        best.setdefault(ranked.deployment.group, ranked.score)
    scores = ", ".join(f"{group}={score:.4f}" for group, score in best.items())
    known = "unknown" if decision.propensity is None else f"{decision.propensity:.6g}"
    return [(b"x-routeiq-scores", safe(scores)), (b"x-routeiq-propensity", known.encode())]


def reason(trace: Trace) -> str:
    """Why this model answered; after a fallback, what the first choice failed with."""
    decision = trace.decision
    if decision is None:
        return ""
    answered = trace.answered_by
    if trace.rejected:
        answers = "answer" if trace.rejected == 1 else "answers"
        return f"escalated past {trace.rejected} {answers}; {decision.reason}"
    if answered is None or answered is decision.chosen or not trace.attempts:
        return decision.reason
    failed = next((one for one in trace.attempts if one.error), None)
    if failed is None:
        return decision.reason
    return f"fallback from {failed.deployment_id} ({failed.error}); {decision.reason}"


def server_timing(trace: Trace, total_ms: float) -> bytes:
    """The phases so far, in milliseconds, as the `Server-Timing` header has them."""
    auth, parse, route = trace.phases
    return b"auth;dur=%.3f, parse;dur=%.3f, route;dur=%.3f, upstream;dur=%.3f, total;dur=%.3f" % (
        auth * 1e3,
        parse * 1e3,
        route * 1e3,
        trace.upstream_ms,
        total_ms,
    )
