"""Admission: no more than N requests at once, and none once the process drains.

A rejection touches two integers and no lock. Health, metrics and admin paths are never refused, so that an
operator can see into an overloaded gateway.
"""

from __future__ import annotations

from routeiq.exceptions import Draining, OverCapacity
from routeiq.gateway.asgi import ASGIApp, Receive, Scope, Send, respond_error
from routeiq.resilience.admission import Admission

EXEMPT = ("/_health/", "/health", "/metrics", "/routeiq/")
RETRY_AFTER_S = 1.0


class AdmissionMiddleware:
    """Answers 503 with `Retry-After` where a request cannot be taken."""

    def __init__(self, app: ASGIApp, *, admission: Admission) -> None:
        self.app = app
        self.admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request in and out, or refuse it."""
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            await self.app(scope, receive, send)
            return
        admission = self.admission
        if not admission.enter():
            if admission.draining:
                error: Draining | OverCapacity = Draining(
                    "This gateway is shutting down; send the request again.",
                    retry_after_s=RETRY_AFTER_S,
                )
            else:
                error = OverCapacity(
                    "The gateway is at its limit of concurrent requests; try again shortly.",
                    retry_after_s=RETRY_AFTER_S,
                )
            close = [(b"connection", b"close")] if admission.draining else []
            await respond_error(send, error, close)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            admission.leave()
