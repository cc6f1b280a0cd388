from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.exceptions import ConnectionLost
from routeiq.ports import Timeouts
from routeiq.providers.http_connection import (
    BODY,
    DONE,
    FAILED,
    HIGH_WATER,
    IDLE,
    Connection,
    Response,
)

BODY_BYTES = b"data: one\n\ndata: two\n\n" * 3
FIXED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY_BYTES) + BODY_BYTES
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(
        b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (BODY_BYTES[:5], BODY_BYTES[5:])
    )
    + b"0\r\nTrailer: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + FIXED
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n" + BODY_BYTES


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0


class FakeOwner:
    def __init__(self) -> None:
        self.released: list[Connection] = []
        self.discarded: list[Connection] = []

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def discard(self, connection: Connection) -> None:
        self.discarded.append(connection)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def connected(loop: asyncio.AbstractEventLoop) -> tuple[Connection, FakeTransport, FakeOwner]:
    connection, transport, owner = Connection(loop, "test:80"), FakeTransport(), FakeOwner()
    connection.connection_made(transport)
    connection.owner = owner
    return connection, transport, owner


def start(connection: Connection, *, no_body: bool = False) -> asyncio.Future[None]:
    return connection.exchange(b"GET", Timeouts(), connection.loop.time(), no_body=no_body)


@pytest.mark.parametrize("raw", [FIXED, CHUNKED, INTERIM, UNTIL_CLOSE])
@given(data=st.data())
def test_a_response_split_anywhere_gives_the_same_body(
    raw: bytes, data: st.DataObject, loop: asyncio.AbstractEventLoop
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12).map(sorted))
    connection, _, owner = connected(loop)
    start(connection)
    body = b""
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if raw[begin:end]:
            connection.data_received(raw[begin:end])
        if data.draw(st.booleans()):
            body += connection.take()
    if raw is UNTIL_CLOSE:
        connection.connection_lost(None)
    body += connection.take()
    assert (connection.status, connection.state, body) == (200, DONE, BODY_BYTES)
    connection.finish()
    assert bool(owner.released) == (raw is not UNTIL_CLOSE)


@given(noise=st.binary(min_size=1, max_size=300), cut=st.integers(0, 300))
def test_noise_never_raises_into_the_event_loop(
    noise: bytes, cut: int, loop: asyncio.AbstractEventLoop
) -> None:
    connection, _, _ = connected(loop)
    head = start(connection)
    for piece in (noise[:cut], noise[cut:]):
        if piece:
            connection.data_received(piece)
    connection.connection_lost(None)
    assert head.done()
    assert connection.state in (DONE, FAILED)


@given(extra=st.binary(min_size=1, max_size=60))
def test_bytes_after_the_message_never_reach_the_next_request(
    extra: bytes, loop: asyncio.AbstractEventLoop
) -> None:
    connection, _, owner = connected(loop)
    start(connection)
    connection.data_received(FIXED + extra)
    assert (connection.take(), connection.state) == (BODY_BYTES, DONE)
    connection.finish()
    if owner.released:  # only blank lines, which RFC 9112 2.2 lets a client skip
        assert extra.strip(b"\r\n") == b""
    else:
        assert owner.discarded == [connection]


def test_bytes_that_come_while_idle_cut_the_connection(loop: asyncio.AbstractEventLoop) -> None:
    connection, transport, owner = connected(loop)
    start(connection)
    connection.data_received(FIXED)
    connection.finish()
    assert connection.state == IDLE
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert transport.aborted
    assert owner.discarded == [connection]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_head_answer_has_no_body_and_the_connection_is_kept(
    head: bytes, loop: asyncio.AbstractEventLoop
) -> None:
    connection, _, owner = connected(loop)
    start(connection, no_body=True)
    connection.data_received(head)
    assert (connection.state, connection.take()) == (DONE, b"")
    connection.finish()
    assert owner.released == [connection]
    start(connection)
    connection.data_received(FIXED)
    assert connection.take() == BODY_BYTES


def test_body_after_a_head_answer_cuts_the_connection(loop: asyncio.AbstractEventLoop) -> None:
    connection, _, owner = connected(loop)
    start(connection, no_body=True)
    connection.data_received(FIXED)
    connection.finish()
    assert owner.discarded == [connection]


def test_reading_pauses_while_too_much_is_unread(loop: asyncio.AbstractEventLoop) -> None:
    connection, transport, _ = connected(loop)
    start(connection)
    size = 2 * HIGH_WATER
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    connection.data_received(b"x" * HIGH_WATER)
    assert not transport.paused
    connection.data_received(b"x")
    assert transport.paused
    assert len(connection.take()) == HIGH_WATER + 1
    assert not transport.paused


def test_a_kept_connection_does_not_stay_paused(loop: asyncio.AbstractEventLoop) -> None:
    connection, transport, owner = connected(loop)
    start(connection)
    size = HIGH_WATER + 10
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    connection.data_received(b"x" * (size - 1))
    assert transport.paused
    connection.data_received(b"x")  # a TLS transport may still hold some
    connection.finish()
    assert owner.released
    assert not transport.paused


def test_trailers_are_not_headers_and_cannot_grow_without_end(
    loop: asyncio.AbstractEventLoop,
) -> None:
    connection, _, _ = connected(loop)
    start(connection)
    connection.data_received(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    )
    connection.data_received(b"X-Late: 1\r\n")
    assert connection.headers == [(b"transfer-encoding", b"chunked")]
    for _ in range(70):
        connection.data_received(b"X-More: " + b"y" * 1000 + b"\r\n")
    assert connection.state == FAILED


def test_endless_interim_answers_are_cut(loop: asyncio.AbstractEventLoop) -> None:
    connection, _, _ = connected(loop)
    start(connection)
    for _ in range(3000):
        connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert connection.state == FAILED


def test_a_connection_that_is_given_up_tells_its_owner_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    connection, _, owner = connected(loop)
    start(connection)
    connection.abort()
    connection.abort()
    connection.connection_lost(None)
    connection.finish()
    assert owner.discarded == [connection]


def test_until_close_body_that_ends_in_a_reset_is_an_error(loop: asyncio.AbstractEventLoop) -> None:
    connection, _, _ = connected(loop)
    start(connection)
    connection.data_received(UNTIL_CLOSE)
    connection.connection_lost(ConnectionResetError())
    assert connection.state == FAILED
    assert isinstance(connection.error, ConnectionLost)


def test_a_collected_response_gives_its_connection_up(loop: asyncio.AbstractEventLoop) -> None:
    connection, transport, owner = connected(loop)
    start(connection)
    connection.data_received(FIXED[:-1])
    assert connection.state == BODY
    response = Response(connection)
    del response
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0))
    assert transport.aborted
    assert owner.discarded == [connection]
