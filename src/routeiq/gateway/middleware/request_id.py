"""Every request has an id, every answer carries it."""

from __future__ import annotations

import random

from routeiq.gateway.asgi import ASGIApp, Message, Receive, Scope, Send

MAX_LENGTH = 128
_VISIBLE = bytes(range(0x21, 0x7F))


def request_id(candidate: bytes | None) -> bytes:
    """The client's id if it is 1 to 128 visible ASCII characters, else a new one.

    Anything else is replaced, never cleaned: an id that was altered would match nothing of the client's.
    """
    if candidate and len(candidate) <= MAX_LENGTH and not candidate.translate(None, _VISIBLE):
        return candidate
    return b"req_%024x" % random.getrandbits(96)


class RequestIDMiddleware:
    """Puts the id into the scope as `request_id` and on the response as `x-request-id`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with an id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        candidate = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                candidate = value
                break
        identifier = request_id(candidate)
        scope["request_id"] = identifier.decode("ascii")

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", identifier)]
            await send(message)

        await self.app(scope, receive, send_with_id)
