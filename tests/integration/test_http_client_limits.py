"""Time limits, size limits and back pressure over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from routeiq.exceptions import ConnectionLost, UpstreamTimeout
from routeiq.ports import Timeouts
from routeiq.providers.http_client import NativeHttpClient
from routeiq.providers.http_connection import Response
from tests.support.scripted_server import Peer, ScriptedServer, always_ok, answer, serving

pytestmark = pytest.mark.anyio
PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)


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
    return await client.send(method, server.url, (), b"{}", timeouts)


async def test_a_slow_reader_stops_the_server(client: NativeHttpClient) -> None:
    size = 64_000_000
    written = 0

    async def flood(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            peer.writer.write(bytes(100_000))
            await peer.writer.drain()
            written += 100_000
        await peer.gone()

    async with serving(flood) as server:
        response = await get(client, server, replace(PATIENT, idle_s=0.1))
        await asyncio.sleep(
            0.4
        )  # longer than idle_s: silence that the reader asked for is no timeout
        assert written < size / 2
        total = 0
        async for piece in response.chunks():
            total += len(piece)
        assert total == size


async def test_read_is_bounded(client: NativeHttpClient) -> None:
    async with serving(always_ok) as server:
        assert await (await get(client, server)).read(2) == b"ok"
        with pytest.raises(ConnectionLost, match="longer than 1 bytes"):
            await (await get(client, server)).read(1)

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.say(bytes(10_000))

    async with serving(endless) as server:
        with pytest.raises(ConnectionLost, match="longer than 1000000 bytes"):
            await (await get(client, server)).read(1_000_000)


@pytest.mark.parametrize("phase", ["first_byte", "idle", "total", "total-between-pieces"])
async def test_silence_ends_in_the_timeout_of_its_phase(
    client: NativeHttpClient, phase: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if phase != "first_byte":
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        while phase == "total-between-pieces":
            await peer.say(b"x")
            await asyncio.sleep(0.02)
        await peer.gone()

    name = phase.partition("-")[0]
    limits = replace(PATIENT, **{f"{name}_s": 0.15})
    loop = asyncio.get_running_loop()
    async with serving(script) as server:
        for _ in range(3):  # a timer of an earlier call must not disturb a later one
            begun = loop.time()
            with pytest.raises(UpstreamTimeout, match=f"{name} timeout of 0.15 s") as caught:
                await (await get(client, server, limits)).read()
            assert (caught.value.phase, caught.value.sent) == (name, True)
            assert 0.14 <= loop.time() - begun < 1.0


async def test_timeouts_follow_the_call_not_the_connection(client: NativeHttpClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        await peer.gone()

    async with serving(script) as server:
        await (await get(client, server, Timeouts(first_byte_s=60))).read()
        with pytest.raises(UpstreamTimeout, match="first_byte"):
            await get(client, server, Timeouts(first_byte_s=0.1))


async def test_no_limits_means_none(client: NativeHttpClient) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.say(answer())

    async with serving(late) as server:
        limits = Timeouts(connect_s=None, first_byte_s=None, idle_s=None)
        assert await (await get(client, server, limits)).read() == b"ok"
