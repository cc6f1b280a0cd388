"""No request body may be larger than the limit, whatever its headers promise."""

from __future__ import annotations

from routeiq.exceptions import RequestTooLarge
from routeiq.gateway.asgi import ASGIApp, Message, Receive, Scope, Send, header, respond_error


class BodyLimitMiddleware:
    """Refuses by `Content-Length` at once, else counts what arrives. Never reads the body itself."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = header(scope["headers"], b"content-length")
        if declared is not None and len(declared) < 20 and int(declared) > self.max_bytes:
            await respond_error(send, too_large(self.max_bytes))
            return
        if declared is not None:  # the server enforces what was declared
            await self.app(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise too_large(self.max_bytes)
            return message

        await self.app(scope, counting, send)


def too_large(limit: int) -> RequestTooLarge:
    """The error, with the limit and what to do."""
    return RequestTooLarge(
        f"The request body is larger than this gateway's limit of {limit} bytes. "
        "Send less, or ask the operator to raise routeiq.server.max_body_bytes."
    )
