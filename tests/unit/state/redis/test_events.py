"""The doorbell: heard by all, missed at times, and then said so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.state.redis import events as module
from routeiq.state.redis import keys
from routeiq.state.redis.connection import RedisConnection
from routeiq.state.redis.events import RedisEvents
from routeiq.types import JsonObject
from tests.support.redis import RedisServer


class Heard:
    """What one listener was told."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, JsonObject]] = asyncio.Queue()
        self.gaps: asyncio.Queue[None] = asyncio.Queue()

    async def on_event(self, topic: str, payload: JsonObject) -> None:
        self.events.put_nowait((topic, payload))
        if topic == "bad":
            raise StoreUnavailable("away")

    async def on_gap(self) -> None:
        self.gaps.put_nowait(None)
        raise StoreUnavailable("away")


@asynccontextmanager
async def listening(events: RedisEvents) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(events.listen(heard.on_event, heard.on_gap))
    try:
        async with asyncio.timeout(20):
            await heard.gaps.get()
            yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_everybody_hears_in_order_and_a_handler_that_fails_is_no_end(
    connection: RedisConnection,
) -> None:
    events = RedisEvents(connection)
    async with listening(events) as one, listening(events) as two:
        await events.publish("bad", {})
        await events.publish("keys", {"kind": "key", "id": "ü"})
        for heard in (one, two):
            assert await heard.events.get() == ("bad", {})
            assert await heard.events.get() == ("keys", {"kind": "key", "id": "ü"})


@pytest.mark.anyio
async def test_what_is_not_ours_is_left_alone(
    connection: RedisConnection, server: RedisServer
) -> None:
    events = RedisEvents(connection)
    async with listening(events) as heard:
        for foreign in (b"\xff", "[]", "{}", '{"topic": 1, "payload": {}}'):
            server.client.publish(keys.CHANNEL, foreign)
        await events.publish("reload", {})
        assert await heard.events.get() == ("reload", {})


@pytest.mark.anyio
async def test_a_cut_connection_is_a_gap_and_made_again(
    connection: RedisConnection, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_S", 60.0)  # it is noticed at once, not by asking
    events = RedisEvents(connection, rng=random.Random(1))
    async with listening(events) as heard:
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await heard.gaps.get()
        await events.publish("reload", {})
        assert await heard.events.get() == ("reload", {})


@pytest.mark.anyio
async def test_silence_is_asked_whether_it_lives(
    connection: RedisConnection, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_S", 0.02)
    events = RedisEvents(connection)
    async with listening(events) as heard:
        pings = server.client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
        await asyncio.sleep(0.3)
        assert server.client.info("commandstats")["cmdstat_ping"]["calls"] > pings
        assert heard.gaps.empty()


@pytest.mark.anyio
async def test_too_many_waiting_events_are_a_gap(
    connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INBOX", 3)
    events = RedisEvents(connection)
    async with listening(events) as heard:
        await asyncio.gather(*(events.publish("keys", {"n": n}) for n in range(50)))
        await heard.gaps.get()
        await events.publish("reload", {})
        while (await heard.events.get())[0] != "reload":
            pass
