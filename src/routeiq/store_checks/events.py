"""`Events`: whoever listens hears everything that is published, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from routeiq.stores import Events
from routeiq.types import JsonObject

from .connections import StoreCheck, StoreFactory, same

PATIENCE_S = 20.0
"""How long is waited for an event before the check fails: far more than any store may take."""


class Listener:
    """Hears events while its context lasts; when that begins, it listens already."""

    def __init__(self, events: Events) -> None:
        self.gaps = 0
        self._events = events
        self._heard: list[tuple[str, JsonObject]] = []
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listener:
        self._task = asyncio.create_task(self._events.listen(self._on_event, self._on_gap))
        await self._until(lambda: self.gaps > 0, "`on_gap` at the beginning")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def topic(self, topic: str, count: int) -> list[JsonObject]:
        """What was heard on a topic, once there are `count` of it."""

        def found() -> list[JsonObject]:
            return [payload for heard, payload in self._heard if heard == topic]

        await self._until(lambda: len(found()) >= count, f"{count} events on {topic!r}")
        return found()

    async def _on_event(self, topic: str, payload: JsonObject) -> None:
        async with self._changed:
            self._heard.append((topic, payload))
            self._changed.notify_all()

    async def _on_gap(self) -> None:
        async with self._changed:
            self.gaps += 1
            self._changed.notify_all()

    async def _until(self, done: Callable[[], bool], what: str) -> None:
        waiting = asyncio.create_task(self._wait_for(done))
        tasks = {waiting, *([self._task] if self._task else [])}
        await asyncio.wait(tasks, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if self._task is not None and self._task.done():
            waiting.cancel()
            await self._task  # raises what ended it
            raise AssertionError("`listen` must go on until it is cancelled")
        if not waiting.done():
            waiting.cancel()
            raise AssertionError(f"not heard within {PATIENCE_S} s: {what}; heard {self._heard}")

    async def _wait_for(self, done: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(done)


async def check_events_reach_everybody(open: StoreFactory) -> None:
    """Both connections hear what either publishes, the publisher included, in the order of one."""
    payloads: list[JsonObject] = [
        {"id": "k1", "n": 1},
        {},
        {"text": "größe 中 \U0001f600 '\"\\ %s $1", "list": [1, None, True, {"x": 0.5}]},
        {"long": "x" * 3900},
    ]
    async with (
        open() as pair,
        Listener(pair.first.events) as one,
        Listener(pair.second.events) as two,
    ):
        for payload in payloads:
            await pair.first.events.publish("keys", payload)
        for listener in (one, two):
            same(await listener.topic("keys", len(payloads)), payloads, "what was heard")
        await pair.second.events.publish("reload", {"from": 2})
        for listener in (one, two):
            same(await listener.topic("reload", 1), [{"from": 2}], "on another topic")


async def check_events_come_once(open: StoreFactory) -> None:
    """Of many published at once over both connections none is lost and none comes twice."""
    count = 200
    async with open() as pair:
        both = (pair.first.events, pair.second.events)
        async with Listener(both[0]) as one, Listener(both[1]) as two:
            await asyncio.gather(
                *(both[number % 2].publish("control", {"n": number}) for number in range(count))
            )
            await both[0].publish("control", {"n": count})
            for listener in (one, two):
                heard = await listener.topic("control", count + 1)
                numbers = sorted(payload["n"] for payload in heard)
                same(numbers, list(range(count + 1)), "what was heard")


async def check_events_are_not_kept(open: StoreFactory) -> None:
    """Who begins to listen hears of a gap and then only what is new."""
    async with open() as pair:
        await pair.first.events.publish("keys", {"n": "old"})
        async with Listener(pair.second.events) as listener:
            same(listener.gaps, 1, "gaps")
            await pair.first.events.publish("keys", {"n": "new"})
            same(await listener.topic("keys", 1), [{"n": "new"}], "what was heard")


CHECKS: tuple[StoreCheck, ...] = (
    check_events_reach_everybody,
    check_events_come_once,
    check_events_are_not_kept,
)
