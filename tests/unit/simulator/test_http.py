from __future__ import annotations

import asyncio

import pytest

from routeiq.simulator import CATALOGUE
from routeiq.simulator.app import App
from routeiq.simulator.http import Connection
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Client:
    """One connection to an app of its own."""

    def __init__(self) -> None:
        self.app = App(CATALOGUE, 0.0, FakeClock())
        self.transport = FakeTransport()
        self.connection = Connection(self.app)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> bytes:
        """What is written by the time `data` has been read."""
        before = len(self.transport.written)
        self.connection.data_received(data)
        return self.transport.written[before:]


@pytest.fixture
def client() -> Client:
    return Client()


def post(model: str, extra: str = "", fields: str = "") -> bytes:
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "hi"}}]{fields}}}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return (head + body).encode()


GET = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    answers = client.send(post("sim-small") + GET + post("sim-large"))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answers.index(b"sim-small") < answers.index(b'"list"') < answers.rindex(b"sim-large")


async def test_what_comes_during_a_slow_answer_waits_for_it(client: Client) -> None:
    assert client.send(post("sim-small#delay_ms=1") + GET) == b""
    while client.app.in_flight:
        await asyncio.sleep(0)
    written = client.transport.written
    assert written.index(b"chat.completion") < written.index(b'"list"')


async def test_reading_pauses_while_too_much_waits(client: Client) -> None:
    client.send(post("sim-small#delay_ms=1") + GET * 40)
    assert not client.transport.reading
    while client.app.in_flight:
        await asyncio.sleep(0)
    assert client.transport.reading
    assert client.transport.written.count(b"200 OK") == 41


async def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    request = post("sim-small")
    for at in range(len(request)):
        client.connection.data_received(request[at : at + 1])
    assert client.transport.written.startswith(b"HTTP/1.1 200 OK")
    assert client.app.log.all()[0].path == "/v1/chat/completions"


async def test_a_chunked_request_body_is_joined(client: Client) -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b'1d\r\n{"model": "sim-embed", "input\r\n7\r\n": "a"}\r\n0\r\n\r\n'
    assert b"200 OK" in client.send(head + body)


async def test_expect_is_ignored(client: Client) -> None:
    assert client.send(post("sim-small", "expect: 100-continue\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_the_connection_stays_open_unless_asked_otherwise(client: Client) -> None:
    client.send(post("sim-small"))
    assert not client.transport.closed
    assert b"connection: close\r\n" in client.send(post("sim-small", "connection: close\r\n"))
    assert client.transport.closed


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(client: Client) -> None:
    request = post("sim-small", fields=', "stream": true').replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = client.send(request)
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")
    assert client.transport.closed


async def test_head_has_no_body(client: Client) -> None:
    answer = client.send(GET.replace(b"GET", b"HEAD"))
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length: " in answer


async def test_what_is_not_http_gets_400_and_the_end(client: Client) -> None:
    assert client.send(b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request")
    assert client.transport.closed


async def test_rubbish_during_an_answer_only_closes(client: Client) -> None:
    client.send(post("sim-small#hang"))
    assert client.send(b"rubbish\r\n\r\n") == b""
    assert client.transport.closed
    client.connection.connection_lost(None)


async def test_an_upgrade_is_not_made(client: Client) -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n"
    assert b"200 OK" in client.send(GET.replace(b"\r\n\r\n", b"\r\n") + upgrade)


async def test_a_client_that_leaves_is_recorded_with_all_it_waited_for(client: Client) -> None:
    client.send(post("sim-small"))
    client.send(post("sim-small#hang") + GET)
    client.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert [r.disconnected for r in client.app.log.all()] == [False, True]
    assert [r.status for r in client.app.log.all()] == [200, None]
    assert (client.app.in_flight, len(client.app.connections)) == (0, 0)


async def test_writing_waits_for_a_slow_reader(client: Client) -> None:
    client.connection.pause_writing()
    client.send(post("sim-small#chunks=5", fields=', "stream": true'))
    for _ in range(5):
        await asyncio.sleep(0)
    assert b"[DONE]" not in client.transport.written
    client.connection.resume_writing()
    while client.app.in_flight:
        await asyncio.sleep(0)
    assert client.transport.written.endswith(b"0\r\n\r\n")


async def test_most_requests_at_once_are_counted(client: Client) -> None:
    other = Connection(client.app)
    other.connection_made(FakeTransport())
    client.send(post("sim-small#hang"))
    other.data_received(post("sim-small"))
    assert client.app.stats()["max_in_flight"] == 2
    assert client.app.stats()["in_flight"] == 1
    client.connection.connection_lost(None)
