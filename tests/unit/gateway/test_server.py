from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from routeiq.gateway import server
from routeiq.gateway.asgi import Receive, Scope, Send, respond_json
from routeiq.gateway.server import MAX_HEAD_BYTES, GatewayProtocol


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await respond_json(send, {"path": scope["path"]})


def connected() -> tuple[GatewayProtocol, Transport]:
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    protocol = GatewayProtocol(config=config, server_state=ServerState(), app_state={})
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


def error_in(transport: Transport) -> tuple[bytes, str]:
    head, _, body = transport.written.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], orjson.loads(body)["error"]["code"]


@pytest.mark.anyio
async def test_a_head_that_does_not_end_is_refused() -> None:
    protocol, transport = connected()
    protocol.data_received(b"GET / HTTP/1.1\r\nhost: x\r\nx-big: ")
    pieces = 0
    while not transport.closed:
        protocol.data_received(b"a" * 4096)
        pieces += 1
    assert pieces == MAX_HEAD_BYTES // 4096 + 1
    status, code = error_in(transport)
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert code == "headers_too_large"


@pytest.mark.anyio
async def test_a_head_in_pieces_and_a_large_body_are_fine() -> None:
    protocol, transport = connected()
    head = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"
    for at in range(0, len(head), 7):
        protocol.data_received(head[at : at + 7])
    for _ in range(3):
        protocol.data_received(b"b" * 100_000)
    await asyncio.sleep(0)
    assert b"200 OK" in transport.written
    assert not transport.closed
    protocol.data_received(b"GET /again HTTP/1.1\r\nhost: x\r\n")
    protocol.data_received(b"\r\n")
    await asyncio.sleep(0)
    assert b'{"path":"/again"}' in transport.written
    protocol.connection_lost(None)


@pytest.mark.anyio
async def test_what_is_not_http_is_told_so_in_json() -> None:
    protocol, transport = connected()
    protocol.data_received(b"\x16\x03\x01 hello\r\n\r\n")
    assert error_in(transport) == (b"HTTP/1.1 400 Bad Request", "invalid_http")
    assert transport.closed
    assert b"x-request-id: req_" in transport.written


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"POST /x HTTP/1.1\r\nhost: a\r\n"])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.01)
    protocol, transport = connected()
    if sent:
        protocol.data_received(sent)
    await asyncio.sleep(0.05)
    assert transport.closed
    assert error_in(transport) == (b"HTTP/1.1 408 Request Timeout", "request_timeout")


@pytest.mark.anyio
async def test_a_head_in_time_stops_the_clock_and_a_later_half_head_starts_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.05)
    protocol, transport = connected()
    protocol.data_received(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
    await asyncio.sleep(0.1)
    assert not transport.closed
    protocol.data_received(b"GET /y HTTP/1.1\r\nho")
    await asyncio.sleep(0.1)
    assert transport.closed


async def answered(protocol: GatewayProtocol) -> None:
    protocol.data_received(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
    while not protocol.cycle.response_complete:
        await asyncio.sleep(0.001)


@pytest.mark.anyio
async def test_an_idle_connection_is_closed_after_the_keep_alive_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "KEEPALIVE_S", 0.05)
    protocol, transport = connected()
    await answered(protocol)
    await asyncio.sleep(0.01)
    assert not transport.closed
    await asyncio.sleep(0.1)
    assert transport.closed


@pytest.mark.anyio
async def test_a_connection_in_use_is_not_closed_by_an_old_keep_alive_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "KEEPALIVE_S", 0.05)
    protocol, transport = connected()
    for _ in range(4):
        await answered(protocol)
        await asyncio.sleep(0.03)
    assert not transport.closed
    protocol.connection_lost(None)
    assert protocol.idle_timer is not None
    assert protocol.idle_timer.cancelled()
