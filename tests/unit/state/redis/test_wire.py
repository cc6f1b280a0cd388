"""The shared connection, against a server that answers what the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from routeiq.state.redis import wire as module
from routeiq.state.redis.wire import Wire

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking_to(
    script: Script, *, timeout_s: float = 5.0, on_push: Callable[[bytes], None] | None = None
) -> AsyncIterator[Wire]:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
            await reader.read()
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, wire = await loop.create_connection(
        lambda: Wire(loop, timeout_s, on_push=on_push), "127.0.0.1", port
    )
    yield wire
    wire.abort()
    await ended.wait()
    server.close()


PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.anyio
async def test_commands_of_one_turn_leave_in_one_write_and_replies_come_back_in_order() -> None:
    reads = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reads.append(await reader.read(65536))
        writer.write(b":0\r\n:1\r\n:2\r\n")

    async with talking_to(script) as wire:
        assert await asyncio.gather(*(wire.send(("PING",)) for _ in range(3))) == [0, 1, 2]
    assert reads == [PING * 3]


@pytest.mark.anyio
async def test_the_reply_of_a_cancelled_caller_is_dropped_and_no_other_gets_it() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2 * len(PING))
        await go.wait()
        writer.write(b"+first\r\n+second\r\n")

    async with talking_to(script) as wire:
        first, second = wire.send(("PING",)), wire.send(("PING",))
        first.cancel()
        go.set()
        assert await second == b"second"


@pytest.mark.anyio
async def test_a_late_reply_is_dropped() -> None:
    late = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        await late.wait()
        await reader.readexactly(len(PING))
        writer.write(b"+late\r\n+right\r\n")

    async with talking_to(script, timeout_s=0.2) as wire:
        with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
            await wire.send(("PING",))
        late.set()
        assert await wire.send(("PING",)) == b"right"
        assert not wire.closed


@pytest.mark.anyio
async def test_a_connection_that_stays_silent_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_S", 0.05)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))

    async with talking_to(script, timeout_s=0.05) as wire:
        with pytest.raises(TimeoutError):
            await wire.send(("PING",))
        async with asyncio.timeout(5):
            await wire.lost
        with pytest.raises(ConnectionError):
            await wire.send(("PING",))


@pytest.mark.anyio
async def test_a_busy_event_loop_is_not_the_servers_slowness() -> None:
    wire = Wire(asyncio.get_running_loop(), 0.01)
    reply = wire.send(("PING",))
    time.sleep(0.05)  # this process does something else for too long
    wire._overdue(again=False)  # uvloop runs timers before it reads
    assert not reply.done()
    wire.data_received(b"+here\r\n")
    assert await reply == b"here"
    reply = wire.send(("PING",))
    time.sleep(0.05)
    wire._overdue(again=True)
    with pytest.raises(TimeoutError):
        await reply
    wire.abort()


@pytest.mark.anyio
async def test_everybody_fails_when_the_connection_is_lost() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2 * len(PING))
        writer.write(b"+one\r\n")
        writer.close()

    async with talking_to(script) as wire:
        one, two = wire.send(("PING",)), wire.send(("PING",))
        assert await one == b"one"
        with pytest.raises(ConnectionError):
            await two
        with pytest.raises(ConnectionError):
            await wire.send(("PING",))


@pytest.mark.anyio
@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+one\r\n+more\r\n"])
async def test_what_is_not_redis_ends_the_connection(nonsense: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        writer.write(nonsense)

    async with talking_to(script) as wire:
        with suppress(ConnectionError):
            assert await wire.send(("PING",)) == b"one"
        async with asyncio.timeout(5):
            await wire.lost
        assert wire.closed


@pytest.mark.anyio
async def test_messages_are_pushed_between_replies() -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        writer.write(message + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" + message)

    async with talking_to(script, on_push=heard.append) as wire:
        assert await wire.send(("PING",)) == [b"pong", b""]
    assert heard == [b"hi", b"hi"]


@pytest.mark.anyio
async def test_pending_commands_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING", 2)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2 * len(PING))
        writer.write(b"+a\r\n+b\r\n")

    async with talking_to(script) as wire:
        sent = [wire.send(("PING",)) for _ in range(3)]
        with pytest.raises(TimeoutError, match="2 commands wait"):
            await sent[2]
        assert await asyncio.gather(*sent[:2]) == [b"a", b"b"]
