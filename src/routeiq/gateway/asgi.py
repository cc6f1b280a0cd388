"""The few ASGI types, and sending small answers. No framework: the hot path counts its function calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import orjson

from routeiq.exceptions import RequestError
from routeiq.ports import Header

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = ASGIApp
Routes = dict[str, dict[str, Handler]]

JSON: Header = (b"content-type", b"application/json")


def header(headers: Sequence[Header], name: bytes) -> bytes | None:
    """The first value of a header, `None` where it is missing. Names are lower case in ASGI."""
    for key, value in headers:
        if key == name:
            return value
    return None


def header_text(headers: Sequence[Header], name: bytes) -> str | None:
    """The same as text; HTTP header bytes are Latin-1."""
    value = header(headers, name)
    return None if value is None else value.decode("latin-1")


async def respond(send: Send, status: int, body: bytes, headers: Sequence[Header]) -> None:
    """Send a whole answer. Adds the length."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send, value: object, *, status: int = 200, headers: Sequence[Header] = ()
) -> None:
    """Send a JSON answer."""
    option = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_DATACLASS
    await respond(send, status, orjson.dumps(value, option=option), [JSON, *headers])


def error_body(error: RequestError) -> bytes:
    """An error in OpenAI's shape."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "code": error.code,
                "param": error.param,
            }
        }
    )


def error_headers(error: RequestError) -> list[Header]:
    """Content type and, where a retry makes sense, when; no more requests after a body that is not read."""
    headers = [JSON]
    if error.status == 413:
        headers.append((b"connection", b"close"))
    headers += error.headers
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s + 0.499))))
    return headers


async def respond_error(send: Send, error: RequestError, headers: Sequence[Header] = ()) -> None:
    """Answer with an error."""
    await respond(send, error.status, error_body(error), [*error_headers(error), *headers])
