"""Whether a store can be reached: fails at once while it cannot, and finds out by itself when it can again.

Without it every request would wait for a time-out of its own while Redis is down.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock

logger = logging.getLogger("routeiq.state")
RETRY_MIN_S = 0.1
RETRY_MAX_S = 2.0
"""Recovery is noticed within this, so that it is over within 5 s of the store's return."""
PING_S = 5.0
"""How often an idle store is asked, so that readiness does not depend on traffic."""
SLOWNESS = 3
"""Time-outs in a row that count as down; a refused or cut connection counts at once."""

LinkState = Literal["connecting", "up", "down"]


class Link:
    """The state of one connection to a store, for one worker. Not for several event loops.

    Adapters call `check` before each use, `worked` and `failed` after it. `run` pings for as long as the worker
    lives; `on_up` is called each time the store comes back.
    """

    def __init__(self, name: str, clock: Clock, *, rng: random.Random | None = None) -> None:
        self.name = name
        self.state: LinkState = "connecting"
        self.error: str | None = None
        self.since = clock.wall()
        self.outages = 0
        self.on_up: list[Callable[[], None]] = []
        self._clock = clock
        self._rng = rng or random.Random()
        self._slow = 0
        self._wake: asyncio.Event | None = None

    @property
    def up(self) -> bool:
        """Whether it is worth asking."""
        return self.state != "down"

    def check(self) -> None:
        """Fail at once while the store is down.

        Raises:
            StoreUnavailable: it is, as far as is known.
        """
        if self.state == "down":
            raise StoreUnavailable(f"{self.name} is unavailable: {self.error}")

    def worked(self) -> None:
        """An operation was answered."""
        self._slow = 0
        if self.state != "up":
            again = self.state == "down"
            self._set("up", None)
            if again:
                logger.warning("store is back", extra={"store": self.name})
            for hook in self.on_up:
                hook()

    def failed(self, error: BaseException, *, slow: bool = False) -> StoreUnavailable:
        """An operation was not answered (`slow`: only not in time); the error to raise."""
        self._slow += 1
        said = f"{type(error).__name__}: {error}"[:300]
        if self.state != "down" and (not slow or self._slow >= SLOWNESS):
            self.outages += 1
            self._set("down", said)
            logger.error("store is down", extra={"store": self.name, "error": said})
            if self._wake is not None:
                self._wake.set()
        return StoreUnavailable(f"{self.name} is unavailable: {said}")

    async def run(self, ping: Callable[[], Awaitable[object]]) -> None:
        """Ping until cancelled: now and then while up, with growing jittered pauses while down.

        `ping` must raise on failure and must not call `check`; any error counts.
        """
        self._wake = asyncio.Event()
        pause = RETRY_MIN_S
        while True:
            try:
                await ping()
                self.worked()
                pause = RETRY_MIN_S
            except Exception as error:  # whatever the driver raises: the store cannot be used
                self.failed(error)
                pause = min(pause * 2, RETRY_MAX_S)
            if self.state == "down":
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(PING_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def report(self) -> dict[str, Any]:
        """For readiness and the admin API. Never names hosts or credentials: readiness is public."""
        return {"state": self.state, "since": self.since, "outages": self.outages}

    def _set(self, state: LinkState, error: str | None) -> None:
        self.state, self.error = state, error
        self.since = self._clock.wall()
