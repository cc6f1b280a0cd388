"""Clients that are slow, rude or broken harm nobody but themselves."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.tools import (
    AUTH,
    CHAT,
    RawStream,
    admin,
    ask,
    chat_body,
    complaints,
    configure,
    rss_mb,
    wait_idle,
)
from tests.support.http import connect
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

pytestmark = pytest.mark.timeout(60)
MB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with start_gateway(configure(tmp_path_factory.mktemp("gateway"), simulator)) as running:
        yield running


def address(gateway: Gateway) -> tuple[str, int]:
    return "127.0.0.1", int(gateway.url.rsplit(":", 1)[1])


def head_of(gateway: Gateway, length: int) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "host: x", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in AUTH.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_that_arrives_byte_by_byte_is_answered(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    body = json.dumps(chat_body()).encode()
    with socket.create_connection(address(gateway), timeout=20.0) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head_of(gateway, len(body)) + body:
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_inside_its_body_is_forgotten(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    with socket.create_connection(address(gateway), timeout=20.0) as client:
        client.sendall(head_of(gateway, 1000) + b'{"model": ')
        wait_until(lambda: admin(gateway, "status")["in_flight"] == 1, "it waits for the body")
    wait_idle(gateway, 2.0)
    assert sim.requests() == []
    assert not complaints(gateway)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", b"POST /v1/models HTTP/1.1\r\nho"])
def test_500_connections_that_are_opened_and_dropped(
    gateway: Gateway, sim: SimulatorProcess, sent: bytes
) -> None:
    clients = []
    for _ in range(500):
        client = socket.create_connection(address(gateway), timeout=20.0)
        clients.append(client)
        if sent:
            client.sendall(sent)
    assert ask(gateway).status == 200
    for client in clients:
        client.close()
    assert ask(gateway).status == 200
    wait_idle(gateway)
    fds = f"/proc/{gateway.pid}/fd"

    def closed() -> bool:
        return len(os.listdir(fds)) < 100

    wait_until(closed, "the gateway's sockets are closed")
    assert not complaints(gateway)


def test_a_half_closed_connection_is_a_client_that_left(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    """uvicorn does not tell half from whole; what matters is that nothing keeps running."""
    sim.behave("hang")
    with RawStream(gateway) as stream:
        wait_until(lambda: len(sim.requests()) == 1, "the provider was asked")
        stream.socket.shutdown(socket.SHUT_WR)
        assert stream.rest() == b""
    wait_idle(gateway, 2.0)
    wait_until(lambda: sim.requests()[0]["disconnected"], "the provider is let go", 2.0)
    assert not complaints(gateway)


def test_bytes_that_are_not_http_get_400_and_the_door(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    with socket.create_connection(address(gateway), timeout=20.0) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_http"' in received


def test_a_slow_reader_of_a_large_stream_is_pushed_back_on(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    """Memory: neither the stream nor the gateway's buffers may hold what the client has not read."""
    for _ in range(3):
        ask(gateway, stream=True)
    before = rss_mb(gateway.pid)
    sim.behave(f"oversize={60 * MB}", "sim-small")
    with RawStream(gateway) as stream:
        stream.until(b"data: ")
        most = 0.0
        for _ in range(20):
            most = max(most, rss_mb(gateway.pid))
            time.sleep(0.05)
        # The simulator writes its 60 MB at once; the kernel's buffers hold some of it.
        assert most - before < 25
        assert ask(gateway, model="pair", max_tokens=3).status == 200
        received = 0
        while received < 50 * MB:
            received += len(stream.socket.recv(MB))
            most = max(most, rss_mb(gateway.pid)) if received % 64 == 0 else most
        assert most - before < 25
        while data := stream.socket.recv(MB):
            stream.received = stream.received[-100:] + data[-100:]
            if stream.received.endswith(b"0\r\n\r\n"):
                break
        assert b"data: [DONE]" in stream.received[-200:]
    wait_idle(gateway)


def test_a_reader_that_leaves_in_the_middle_of_a_large_stream(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave(f"oversize={30 * MB}", "sim-small")
    with RawStream(gateway) as stream:
        stream.until(b"data: ")
        time.sleep(0.2)  # until the buffers are full and the gateway waits for the client
    wait_idle(gateway, 3.0)
    assert not complaints(gateway)


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, sim: SimulatorProcess) -> None:
    with socket.create_connection(address(gateway), timeout=20.0) as client:
        sent = b""
        for number in range(5):
            body = json.dumps(chat_body(f"pipelined {number}")).encode()
            sent += head_of(gateway, len(body)) + body
        client.sendall(sent)
        received = b""
        while received.count(b"HTTP/1.1 200") < 5 or not received.endswith(b"}"):
            received += client.recv(65536)
    seen = [one["json"]["messages"][0]["content"] for one in sim.requests()]
    assert seen == [f"pipelined {number}" for number in range(5)]


def test_keep_alive_connections_outlive_errors(gateway: Gateway, sim: SimulatorProcess) -> None:
    connection = connect(gateway.url)
    sent = {**AUTH, "content-type": "application/json"}
    sockets = set()
    for raw, status in ((b"{", 400), (b"{}", 400), (json.dumps(chat_body()).encode(), 200)) * 2:
        connection.request("POST", CHAT, raw, sent)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is not None
        sockets.add(connection.sock.getsockname())
    assert len(sockets) == 1
    connection.close()


def test_many_clients_leaving_at_once_leave_nothing_behind(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("chunk_ms=20;chunks=20")

    def visit(number: int) -> None:
        with RawStream(gateway) as stream:
            stream.until(b"data: ", 1 + number % 5)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(40)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(20.0)
    wait_idle(gateway)
    wait_until(lambda: sim.stats()["in_flight"] == 0, "no call is left", 3.0)
    assert not complaints(gateway)
