from __future__ import annotations

from typing import Any

import orjson
import pytest

from routeiq.exceptions import RequestTooLarge
from routeiq.gateway.app import Gateway
from routeiq.gateway.asgi import ASGIApp, Message, Receive, Scope, Send, respond_json
from routeiq.gateway.middleware import (
    STACK,
    AdmissionMiddleware,
    BodyLimitMiddleware,
    RequestIDMiddleware,
)
from routeiq.resilience.admission import Admission
from tests.support.upstreams import Rig


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, answers with its length and the request's id."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await respond_json(send, {"size": size, "id": scope.get("request_id")})


async def run(
    app: ASGIApp, *chunks: bytes, path: str = "/v1/x", **headers: str
) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Message] = []
    queue: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks)}
        for n, chunk in enumerate(chunks or (b"",), 1)
    ]

    async def receive() -> Message:
        return queue.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "path": path, "headers": raw}, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), orjson.loads(body["body"])


@pytest.mark.anyio
async def test_the_id_is_in_the_scope_and_on_the_answer() -> None:
    status, headers, body = await run(RequestIDMiddleware(echo), x_request_id="mine")
    assert (status, headers[b"x-request-id"], body["id"]) == (200, b"mine", "mine")
    _, headers, body = await run(RequestIDMiddleware(echo))
    assert headers[b"x-request-id"].decode() == body["id"]


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "status"), [(10, 200), (11, 413)])
async def test_a_declared_length_over_the_limit_is_not_read(size: int, status: int) -> None:
    app = BodyLimitMiddleware(echo, max_bytes=10)
    assert (await run(app, b"x" * size, content_length=str(size)))[0] == status


@pytest.mark.anyio
async def test_without_a_declared_length_the_bytes_are_counted() -> None:
    app = BodyLimitMiddleware(echo, max_bytes=10)
    assert (await run(app, b"x" * 5, b"x" * 5))[2]["size"] == 10
    with pytest.raises(RequestTooLarge, match="10 bytes"):
        await run(app, b"x" * 5, b"x" * 6)


@pytest.mark.anyio
async def test_over_the_limit_of_requests_is_a_503() -> None:
    admission = Admission(1)
    app = AdmissionMiddleware(echo, admission=admission)
    assert (await run(app))[0] == 200
    assert admission.in_flight == 0
    assert admission.enter()
    status, headers, body = await run(app)
    assert (status, body["error"]["code"]) == (503, "over_capacity")
    assert headers[b"retry-after"] == b"1"
    assert b"connection" not in headers
    assert admission.in_flight == 1


@pytest.mark.anyio
async def test_while_draining_the_connection_ends_too() -> None:
    admission = Admission(0)
    admission.drain()
    status, headers, body = await run(AdmissionMiddleware(echo, admission=admission))
    assert (status, body["error"]["code"]) == (503, "draining")
    assert headers[b"connection"] == b"close"


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/_health/ready", "/health", "/metrics", "/routeiq/v1/status"])
async def test_what_operators_need_is_never_refused(path: str) -> None:
    admission = Admission(0)
    admission.drain()
    assert (await run(AdmissionMiddleware(echo, admission=admission), path=path))[0] == 200
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_a_failing_request_leaves_too() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("boom")

    admission = Admission(0)
    with pytest.raises(ValueError, match="boom"):
        await run(AdmissionMiddleware(fail, admission=admission))
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_what_is_not_http_passes_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody should be called")

    stack: list[ASGIApp] = [
        RequestIDMiddleware(app),
        AdmissionMiddleware(app, admission=Admission(1)),
        BodyLimitMiddleware(app, max_bytes=1),
    ]
    for one in stack:
        await one({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"] * len(STACK)


@pytest.mark.anyio
async def test_the_gateway_is_wrapped_in_the_declared_order() -> None:
    app: Any = Gateway(Rig({}, {"one": ("only",)}).runtime).app
    wrappers = []
    while isinstance(app, STACK):
        wrappers.append(type(app))
        app = app.app
    assert tuple(wrappers) == STACK
