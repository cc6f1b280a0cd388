"""No request body may be larger than the limit, whatever its headers promise."""

from __future__ import annotations

from collections.abc import Awaitable

from routeiq.exceptions import RequestTooLarge
from routeiq.gateway.asgi import ASGIApp, Message, Receive, Scope, Send, header, respond_error


class BodyLimitMiddleware:
    """Refuses by `Content-Length` at once, else counts what arrives. Never reads the body itself."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on, with a counting `receive` where no length was declared.

        Not a coroutine itself: what has nothing to wait for costs no frame on the hot path.
        """
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        declared = header(scope["headers"], b"content-length")
        if declared is None:
            return self.app(scope, self._counting(receive), send)
        if len(declared) < 20 and int(declared) > self.max_bytes:
            return respond_error(send, too_large(self.max_bytes))
        return self.app(scope, receive, send)  # the server enforces what was declared

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise too_large(self.max_bytes)
            return message

        return counting


def too_large(limit: int) -> RequestTooLarge:
    """The error, with the limit and what to do."""
    return RequestTooLarge(
        f"The request body is larger than this gateway's limit of {limit} bytes. "
        "Send less, or ask the operator to raise routeiq.server.max_body_bytes."
    )
