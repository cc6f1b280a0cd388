"""Pure ASGI wrappers, outermost first: request id, admission and drain, body limit."""

from __future__ import annotations

from .admission import AdmissionMiddleware
from .body_limit import BodyLimitMiddleware
from .request_id import RequestIDMiddleware

STACK = (RequestIDMiddleware, AdmissionMiddleware, BodyLimitMiddleware)

__all__ = ["STACK", "AdmissionMiddleware", "BodyLimitMiddleware", "RequestIDMiddleware"]
