"""The error for a request that no deployment may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from routeiq.exceptions import (
    ContextLengthExceeded,
    InvalidRequest,
    NoHealthyDeployment,
    PermissionDenied,
    RequestError,
)
from routeiq.types import RoutingRequest

from .eligibility import Excluded, Why, missing, summary

_HEALTH = frozenset({Why.BREAKER, Why.TRIED})


def nobody(
    name: str,
    request: RoutingRequest,
    excluded: Sequence[Excluded],
    retry_after_s: Callable[[str], float],
) -> RequestError:
    """Ours to wait for, or the caller's to change; `retry_after_s` tells it of a deployment's breaker."""
    reasons = {why for _, why in excluded}
    if Why.ACCESS in reasons and reasons <= {Why.ACCESS, Why.PROFILE}:
        return PermissionDenied(f"This key may not use {name[:100]!r}.", param="model")
    said = f"No deployment of {name[:100]!r} can take this request: {summary(excluded)}."
    if reasons & _HEALTH:
        waits = [retry_after_s(slot.id) for slot, why in excluded if why is Why.BREAKER]
        return NoHealthyDeployment(said, retry_after_s=min(waits, default=None))
    if Why.CONTEXT in reasons:
        largest = max(
            slot.deployment.facts.context_tokens or 0
            for slot, why in excluded
            if why is Why.CONTEXT
        )
        return ContextLengthExceeded(
            f"{said} It has about {request.input_tokens} tokens, the largest window {largest}.",
            param="messages" if request.operation == "chat" else "input",
        )
    lacking = sorted(
        {missing(slot, request.needs) for slot, why in excluded if why is Why.CAPABILITY}
    )
    return InvalidRequest(
        said + (f" Missing: {', '.join(lacking)}." if lacking else ""), param="model"
    )
