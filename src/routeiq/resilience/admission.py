"""How many requests are let in at once, and letting the last of them out."""

from __future__ import annotations

import asyncio


class Admission:
    """Counts requests of one worker. A refusal compares two integers: no lock, no allocation.

    `max_concurrent` 0 is no limit.
    """

    def __init__(self, max_concurrent: int) -> None:
        self._limit = max_concurrent
        self._empty: asyncio.Event | None = None
        self.in_flight = 0
        self.draining = False

    def enter(self) -> bool:
        """Whether a request may come in. Who got yes must call `leave` exactly once."""
        if self.draining or (self._limit and self.in_flight >= self._limit):
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """A request that was let in is over."""
        self.in_flight -= 1
        if self._empty is not None and self.in_flight == 0:
            self._empty.set()

    def drain(self) -> None:
        """Let nobody in any more."""
        self.draining = True

    async def drained(self) -> None:
        """Wait until nobody is in. Bound it with a timeout; a stream may take its time."""
        if self.in_flight:
            self._empty = self._empty or asyncio.Event()
            await self._empty.wait()
