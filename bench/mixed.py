"""Traffic of every kind at once, good and bad, for the soak and the hunt for stalls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import orjson

from .gateways import AUTO, PLAIN, SPACED, STREAM, Target, chat
from .launch import Request

_HEAD_LIMIT = 64 * 1024
_PAUSE_S = 0.1


def odd_requests(target: Target) -> list[Request]:
    """What clients also send: long conversations, big images, errors, rubbish."""
    url, headers = target.url, target.headers

    def made(messages: list[dict[str, object]], **more: object) -> Request:
        body = orjson.dumps({"model": target.model(PLAIN), "messages": messages, **more})
        return Request(url=url, headers={"content-type": "application/json", **headers}, body=body)

    turn = "A turn of a conversation that has gone on for quite a while already. " * 4
    talk: list[dict[str, object]] = [
        {"role": "assistant" if n % 2 else "user", "content": turn} for n in range(400)
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
    return [
        made(talk[:-1]),
        made([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]),
        made([{"role": "user", "content": "hello " * 200_000}]),
        chat(url, "no-such-model", headers),
        chat(url, target.model(PLAIN), {"authorization": "Bearer wrong"}),
        Request(url=url, headers=headers, body=b'{"model": "plain", "messages": ['),
        Request(url=url, headers=headers, body=b"[" * 100_000),
        chat(url, target.model(AUTO), headers),
        chat(url, target.model(STREAM), headers, stream=True),
    ]


async def exchange(request: Request, *, cut_after: int | None = None) -> int:
    """Send a request on its own connection, read the answer (or `cut_after` bytes of it); the status."""
    reader, writer = await asyncio.open_connection(*request.address, limit=_HEAD_LIMIT)
    try:
        wire = request.wire().replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        writer.write(wire)
        head = await reader.readuntil(b"\r\n\r\n")
        if cut_after is None:
            while await reader.read(_HEAD_LIMIT):
                pass
        else:
            await reader.read(cut_after)
        return int(head.split(b" ", 2)[1])
    finally:
        writer.transport.abort()


class Background:
    """Sends odd requests and cuts streams at random places until stopped; counts statuses and lost answers."""

    def __init__(self, target: Target, *, lanes: int, seed: int = 7) -> None:
        self._odd = odd_requests(target)
        self._stream = chat(target.url, target.model(SPACED), target.headers, stream=True)
        self._lanes = lanes
        self._random = random.Random(seed)
        self.statuses: dict[str, int] = {}

    async def run(self, running: Callable[[], bool]) -> None:
        """Send, one after the other in each of `lanes`, a tenth of a second apart."""
        async with asyncio.TaskGroup() as group:
            for lane in range(self._lanes):
                group.create_task(self._lane(lane, running))

    async def _lane(self, number: int, running: Callable[[], bool]) -> None:
        while running():
            number += 1
            if number % 2:
                request, cut = self._stream, self._random.randrange(1, 4000)
            else:
                request, cut = self._odd[number // 2 % len(self._odd)], None
            self._count(await self._status(request, cut))
            await asyncio.sleep(_PAUSE_S)

    async def _status(self, request: Request, cut: int | None) -> str:
        try:
            async with asyncio.timeout(60):
                return str(await exchange(request, cut_after=cut))
        except (OSError, EOFError, TimeoutError) as error:
            return type(error).__name__

    def _count(self, status: str) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def unexpected(self) -> dict[str, int]:
        """What is neither an answer nor a refusal that the request deserved."""
        fine = {"200", "400", "401", "404"}
        return {status: count for status, count in self.statuses.items() if status not in fine}
