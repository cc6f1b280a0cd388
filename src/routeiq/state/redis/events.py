"""`Events` on Redis: publish and subscribe on one channel."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable

from routeiq.exceptions import StoreUnavailable
from routeiq.state.link import RETRY_MAX_S, RETRY_MIN_S
from routeiq.stores import OnEvent
from routeiq.types import JsonObject

from . import keys
from .connection import FAILURES, RedisConnection
from .wire import Wire

logger = logging.getLogger("routeiq.state")
PING_S = 2.5
"""After so much silence the subscription is asked whether it lives; with the time-out that is within 5 s."""
INBOX = 10_000
"""Events that wait to be handled; beyond it they are missed, and listening begins again."""
OnGap = Callable[[], Awaitable[None]]


class RedisEvents:
    """Publishes over the shared connection; listens on one of its own."""

    def __init__(self, connection: RedisConnection, *, rng: random.Random | None = None) -> None:
        self.listening = False
        self._connection = connection
        self._rng = rng or random.Random()

    async def publish(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker."""
        message = json.dumps({"topic": topic, "payload": payload}, separators=(",", ":"))
        await self._connection.hot(keys.CHANNEL, "PUBLISH", keys.CHANNEL, message)

    async def listen(self, on_event: OnEvent, on_gap: OnGap) -> None:
        """Hear events until cancelled."""
        pause = RETRY_MIN_S
        while True:
            inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
            try:
                wire = await self._subscribe(inbox)
            except FAILURES as error:
                logger.warning("cannot listen to events", extra={"error": f"{error}"[:200]})
                pause = min(pause * 2, RETRY_MAX_S)
            else:
                pause = RETRY_MIN_S
                try:
                    await self._hear(wire, inbox, on_event, on_gap)
                finally:
                    self.listening = False
                    wire.abort()
                logger.warning("events were cut off")
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    async def _subscribe(self, inbox: asyncio.Queue[bytes | None]) -> Wire:
        wire: Wire | None = None

        def push(message: bytes) -> None:
            if inbox.qsize() < INBOX:
                inbox.put_nowait(message)
            elif wire is not None:
                wire.abort("too many events wait")

        wire = await self._connection.subscriber(push)
        wire.lost.add_done_callback(lambda _: inbox.put_nowait(None))
        try:
            await wire.send(("SUBSCRIBE", keys.CHANNEL))
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _hear(
        self,
        wire: Wire,
        inbox: asyncio.Queue[bytes | None],
        on_event: OnEvent,
        on_gap: OnGap,
    ) -> None:
        """Until the connection is lost."""
        self.listening = True
        await _handle(on_gap())
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    message = await inbox.get()
            except TimeoutError:
                try:
                    await wire.send(("PING",))
                except FAILURES:
                    return
                continue
            if message is None:
                return
            event = _read(message)
            if event is not None:
                await _handle(on_event(*event))


def _read(message: bytes) -> tuple[str, JsonObject] | None:
    """Topic and payload; the channel is open to others, so what is not ours is left alone."""
    try:
        event = json.loads(message)
        topic, payload = event["topic"], event["payload"]
    except (ValueError, KeyError, TypeError):
        topic = payload = None
    if isinstance(topic, str) and isinstance(payload, dict):
        return topic, payload
    logger.warning("an event was not understood", extra={"bytes": len(message)})
    return None


async def _handle(handling: Awaitable[None]) -> None:
    """A handler reads stores that may be away; it reads them again by itself."""
    try:
        await handling
    except StoreUnavailable as error:
        logger.warning("an event could not be followed up", extra={"error": str(error)})
