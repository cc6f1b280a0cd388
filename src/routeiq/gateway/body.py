"""Reading a request's body: once, bounded in size and time, decompressed, parsed."""

from __future__ import annotations

import asyncio
import zlib

import orjson

from routeiq.exceptions import InvalidRequest
from routeiq.gateway.asgi import Receive, Scope, header
from routeiq.gateway.middleware.body_limit import too_large
from routeiq.types import JsonObject

# A client that stops sending holds a slot and memory: it gets this long between two pieces.
BODY_IDLE_S = 60.0
# Decompressing more than this many bytes takes longer than the loop may be held.
OFF_LOOP_BYTES = 32 * 1024


class ClientDisconnected(Exception):
    """The client went away; there is nobody to answer."""


async def read_body(receive: Receive) -> bytes:
    """The whole body as it was sent.

    Raises:
        ClientDisconnected: the connection closed before the body was complete.
        InvalidRequest: nothing arrived for `BODY_IDLE_S` seconds.
    """
    message = await receive()  # small bodies are complete with the first message: no timer, no copy
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        try:
            async with asyncio.timeout(BODY_IDLE_S):
                message = await receive()
        except TimeoutError as error:
            raise InvalidRequest(
                f"The request body stopped arriving for {BODY_IDLE_S:.0f} s."
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def decompress(scope: Scope, body: bytes, limit: int) -> bytes:
    """Undo `Content-Encoding`; the result may not be larger than `limit` (a bomb gets 413)."""
    encoding = header(scope["headers"], b"content-encoding")
    if encoding is None or not body:
        return body
    name = encoding.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return body
    if len(body) < OFF_LOOP_BYTES:
        return decoded(name, body, limit)
    return await asyncio.to_thread(decoded, name, body, limit)


def decoded(name: str, body: bytes, limit: int) -> bytes:
    """Decompress `body`, whose encoding is `name`."""
    try:
        if name in ("gzip", "x-gzip"):
            return _inflate(body, 16 + zlib.MAX_WBITS, limit)
        if name == "deflate":
            return _inflate(body, zlib.MAX_WBITS, limit)
    except (zlib.error, EOFError) as error:
        raise InvalidRequest(f"The request body is not valid {name!r} data.") from error
    raise InvalidRequest(
        f"Content-Encoding {name!r} is not supported; use gzip or deflate, or none."
    )


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits)
    plain = decoder.decompress(body, limit + 1)
    if len(plain) > limit:
        raise too_large(limit)
    if not decoder.eof:
        raise EOFError("truncated")
    return plain


def parse_json(body: bytes) -> JsonObject:
    """The body as a JSON object.

    Raises:
        InvalidRequest: not JSON (invalid UTF-8 and absurd nesting included), or not an object.
    """
    if not body:
        raise InvalidRequest("The request body is empty; send a JSON object.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"We could not parse the JSON body of your request: {error}."
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"The request body must be a JSON object, not {type(value).__name__}.")
    return value
