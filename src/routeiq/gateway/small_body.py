"""Reading the small JSON bodies of the gateway's own routes."""

from __future__ import annotations

from routeiq.gateway.asgi import Receive, Scope
from routeiq.gateway.body import decompress, parse_json, read_body
from routeiq.gateway.middleware.body_limit import too_large
from routeiq.types import JsonObject

MAX_BYTES = 64 * 1024


async def small_json(scope: Scope, receive: Receive) -> JsonObject:
    """The request's body, a JSON object of at most `MAX_BYTES` bytes, after decompression too.

    Raises:
        InvalidRequest: it is no JSON object.
        RequestTooLarge: it is larger.
    """
    body = await decompress(scope, await read_body(receive), MAX_BYTES)
    if len(body) > MAX_BYTES:
        raise too_large(MAX_BYTES)
    return parse_json(body)
