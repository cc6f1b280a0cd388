from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from routeiq.exceptions import ConnectFailed, ConnectionLost
from routeiq.ports import Timeouts
from routeiq.providers.http_client import NativeHttpClient
from routeiq.providers.http_connection import Response
from tests.support.scripted_server import Peer, ScriptedServer, always_ok, answer, serving

pytestmark = pytest.mark.anyio
PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
NO_HEADERS: tuple[tuple[bytes, bytes], ...] = ()


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def client() -> AsyncIterator[NativeHttpClient]:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the system's authorities take 40 ms to load
    client = NativeHttpClient(max_connections=2, ssl_context=plain)
    yield client
    await client.close()


async def get(
    client: NativeHttpClient,
    server: ScriptedServer,
    timeouts: Timeouts = PATIENT,
    method: str = "POST",
) -> Response:
    return await client.send(method, server.url, NO_HEADERS, b"{}", timeouts)


async def test_request_is_written_as_one_http_message(client: NativeHttpClient) -> None:
    async with serving(always_ok) as server:
        headers = ((b"Authorization", b"Bearer sk"), (b"x-empty", b""))
        response = await client.send("POST", f"{server.url}/chat?a=b", headers, b'{"a":1}', PATIENT)
        assert (response.status, await response.read()) == (200, b"ok")
        assert response.headers == [(b"content-length", b"2")]
        assert server.peers[0].requests == [
            b"POST /v1/chat?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nAuthorization: Bearer sk\r\n"
            b'x-empty: \r\ncontent-length: 7\r\n\r\n{"a":1}' % server.port
        ]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 11\r\n\r\n", b"hello world"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"),
        (b"\r\n", b"hello world"),
    ],
    ids=["length", "chunked", "until-close"],
)
async def test_every_framing_arrives_byte_by_byte(
    client: NativeHttpClient, head: bytes, body: bytes
) -> None:
    raw = b"HTTP/1.1 200 OK\r\n" + head + body

    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.say(*(raw[i : i + 1] for i in range(len(raw))))

    async with serving(drip) as server:
        assert await (await get(client, server)).read() == b"hello world"
        pieces = [piece async for piece in (await get(client, server)).chunks()]
        assert b"".join(pieces) == b"hello world"


async def test_a_piece_is_delivered_before_the_next_is_sent(client: NativeHttpClient) -> None:
    go = asyncio.Event()

    async def stepwise(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for letter in (b"a", b"b", b"c"):
            await peer.say(b"1\r\n" + letter + b"\r\n")
            await go.wait()
            go.clear()
        await peer.say(b"0\r\n\r\n")

    async with serving(stepwise) as server:
        response = await get(client, server)
        seen = []
        async for piece in response.chunks():
            seen.append(piece)
            go.set()
        assert seen == [b"a", b"b", b"c"]
        assert await response.read() == b""


async def test_connection_is_reused_after_complete_messages_of_all_kinds(
    client: NativeHttpClient,
) -> None:
    replies = [
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        answer(),
    ]

    async def script(peer: Peer) -> None:
        for reply in replies:
            await peer.request()
            await peer.say(reply)

    async with serving(script) as server:
        seen = []
        for _ in replies:
            response = await get(client, server)
            seen.append((response.status, await response.read()))
        assert seen == [(200, b"ok"), (204, b""), (304, b""), (302, b""), (200, b"x"), (200, b"ok")]
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"ok", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        answer() + b"garbage",
        answer() + b"HTTP",
        answer() + answer(b"unasked"),
    ],
)
async def test_connection_is_not_reused_after_an_unclean_end(
    client: NativeHttpClient, reply: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)
        await peer.gone()

    async with serving(script) as server:
        for _ in range(2):
            assert await (await get(client, server)).read() == b"ok"
        assert len(server.peers) == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 66_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"y" * 66_000 + b"\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 257 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n",
        b"",
    ],
)
async def test_what_is_not_a_usable_head_is_a_lost_connection(
    client: NativeHttpClient, reply: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)

    async with serving(script) as server:
        with pytest.raises(ConnectionLost) as caught:
            await get(client, server)
        assert caught.value.sent
        assert len(server.peers) == 1  # a fresh connection is not tried again


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n|nonsense\r\n",
    ],
)
async def test_a_cut_body_gives_what_arrived_then_an_error(
    client: NativeHttpClient, reply: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for packet in reply.split(b"|"):
            await peer.say(packet)
            await asyncio.sleep(0.02)

    async with serving(script) as server:
        chunks = (await get(client, server)).chunks()
        assert await anext(chunks) == b"half"
        with pytest.raises(ConnectionLost):
            await anext(chunks)
        with pytest.raises(ConnectionLost):
            await (await get(client, server)).read()


async def test_a_kept_connection_that_was_closed_is_replaced_once(client: NativeHttpClient) -> None:
    async def close_after_one(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        if peer.number == 1:
            await peer.request()  # takes the second request and closes without a byte of answer

    async with serving(close_after_one) as server:
        assert await (await get(client, server)).read() == b"ok"
        assert await (await get(client, server)).read() == b"ok"
        assert [len(peer.requests) for peer in server.peers] == [2, 1]


async def test_a_replaced_connection_is_not_replaced_again(client: NativeHttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.say(answer())
            await peer.request()

    async with serving(script) as server:
        assert await (await get(client, server)).read() == b"ok"
        with pytest.raises(ConnectionLost):
            await get(client, server)
        assert len(server.peers) == 2


async def test_a_kept_connection_that_breaks_inside_the_head_is_not_retried(
    client: NativeHttpClient,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        await peer.say(b"HTTP/1.1 2")

    async with serving(script) as server:
        await (await get(client, server)).read()
        with pytest.raises(ConnectionLost):
            await get(client, server)
        assert len(server.peers) == 1


async def test_an_answer_before_the_request_is_read_counts_and_the_connection_is_dropped(
    client: NativeHttpClient,
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(answer(b"too large", status=b"413 Content Too Large"))
        await asyncio.sleep(10)

    async with serving(refuse) as server:
        for _ in range(2):
            response = await client.send("POST", server.url, NO_HEADERS, bytes(30_000_000), PATIENT)
            assert (response.status, await response.read()) == (413, b"too large")
        assert len(server.peers) == 2


@pytest.mark.parametrize("how", ["close", "cancel", "drop", "abandon"])
async def test_giving_up_cuts_the_connection_and_frees_its_slot(
    client: NativeHttpClient, how: str
) -> None:
    left = asyncio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        if how != "cancel":
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await peer.gone()
        left.set()

    async with serving(stall) as server:
        for _ in range(5):  # more often than there are slots
            left.clear()
            if how == "cancel":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(get(client, server), 0.05)
            else:
                response = await get(client, server)
                if how == "abandon":
                    async for _piece in response.chunks():
                        break
                if how == "close":
                    response.close()
                    response.close()
                del response
                gc.collect()
            await asyncio.wait_for(left.wait(), 2)


async def test_caches_are_bounded(client: NativeHttpClient) -> None:
    async with serving(always_ok) as server:
        for number in range(1100):
            headers = ((b"x-request-id", b"%d" % number),)
            response = await client.send("POST", f"{server.url}/{number}", headers, b"", PATIENT)
            assert await response.read() == b"ok"
        assert len(server.peers) == 1
        assert b"x-request-id: 1099\r\n" in server.peers[0].requests[-1]
    assert len(client._routes) <= 1024
    assert len(client._lines) <= 1024


async def test_unix_socket(client: NativeHttpClient, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    async with serving(always_ok, path=path) as server:
        response = await client.send(
            "GET", f"http+unix://{path.replace('/', '%2F')}/v1/models", NO_HEADERS, b"", PATIENT
        )
        assert await response.read() == b"ok"
        assert (
            server.peers[0]
            .requests[0]
            .startswith(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n")
        )
    with pytest.raises(ConnectFailed):
        await client.send("GET", "http+unix://%2Fno%2Fsuch/", NO_HEADERS, b"", PATIENT)
