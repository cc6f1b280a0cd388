"""Breakers shared by the fleet: what one worker learnt the hard way protects all, and one probe serves all.

Each worker decides by its own breakers, in memory. Beside the requests, transitions go to the board, those of
other workers come from it, and leave for a probe is asked there. While the board cannot be asked every worker
goes on by itself, as one without a fleet would. Only durations cross hosts, never times: clocks may differ.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Board, Notice
from routeiq.types import JsonObject

from .breaker import Breakers, State

logger = logging.getLogger("routeiq.resilience")
ANSWER_S = 1.0
"""How long the board may take; then what it would have said is no longer waited for."""
RETRY_S = 0.5
"""Pause before what could not be written is written again."""
BACK_S = 1.0
"""How often a board that could not be asked is asked again."""


class FleetBreakers:
    """Ties this worker's `breakers` to the `board`.

    Call `load` before the first request, run `run` for as long as the worker lives, and hand events of topic
    `breakers` to `on_event` and gaps in them to `reread`. The board announces what is written to it.
    """

    def __init__(
        self,
        *,
        breakers: Breakers,
        board: Board,
        clock: Clock,
        worker: str,
        open_s: float,
        reread_s: float = 5.0,
    ) -> None:
        self._breakers = breakers
        self._board = board
        self._monotonic = clock.monotonic
        self._worker = worker
        self._open_s = open_s
        self._reread_s = reread_s
        self._joined = False
        self._applying = False
        self._outbox: dict[str, float | None] = {}  # until when it is open; None for closed
        self._posted: set[str] = set()  # seen on the board: when it is gone there, it was closed
        self._changes = 0
        self._changed: dict[str, int] = {}  # the number of each breaker's last change
        self._wake = asyncio.Event()
        self._reread_at = 0.0
        self._failed = False
        self.opened = 0
        self.heard = 0
        self.claims_won = 0
        self.claims_lost = 0
        self.alone = 0

    def use(self, open_s: float) -> None:
        """Another pause holds from now on (the configuration was reloaded); see `Breakers.use`."""
        self._open_s = open_s

    def status(self) -> dict[str, Any]:
        """For the admin API. `alone` counts probes sent without leave, because nobody could be asked."""
        return {
            "in_step": not self._failed and not self._outbox,
            "opened": self.opened,
            "heard": self.heard,
            "claims_won": self.claims_won,
            "claims_lost": self.claims_lost,
            "alone": self.alone,
        }

    async def load(self) -> None:
        """Learn which breakers are open, for at most a second; raises nothing."""
        if not self._joined:
            self._joined = True
            self._breakers.join(self._noted, self._wanted)
        await self.reread()

    async def run(self) -> None:
        """Write, ask for leave and read again, until cancelled."""
        while True:
            await self.step()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """One round of `run`: all that is due now."""
        self._wake.clear()
        await self._publish()
        due = [id for id, left_s in self._breakers.wanting_leave().items() if left_s <= 0]
        await asyncio.gather(*[self._claim(id) for id in due])
        if self._monotonic() >= self._reread_at:
            await self.reread()

    async def on_event(self, payload: JsonObject) -> None:
        """Another worker's breaker changed."""
        id, state, left_s = payload.get("id"), payload.get("state"), payload.get("left_s")
        if not isinstance(id, str) or payload.get("worker") == self._worker:
            return
        self.heard += 1
        self._count(id)
        if state == "closed":
            self._posted.discard(id)
            self._outbox.pop(id, None)
            self._apply(id, None)
        elif state == "open" and isinstance(left_s, int | float):
            self._posted.add(id)
            self._apply(id, float(left_s))

    async def reread(self) -> None:
        """Take what the board says: after a gap in the events, and now and then. Raises nothing."""
        self._reread_at = self._monotonic() + self._reread_s
        asked = self._changes
        try:
            async with asyncio.timeout(ANSWER_S):
                notices = await self._board.all()
        except (StoreUnavailable, TimeoutError) as error:
            self._lost(error)
            return
        self._failed = False
        left = {notice.id: notice.left_s for notice in notices}
        for id in self._posted | left.keys():
            # What changed while the board was asked, or waits to be written, is younger than the answer.
            if id not in self._outbox and self._changed.get(id, 0) <= asked:
                self._apply(id, left.get(id))
        self._posted = set(left)

    def _noted(self, id: str, before: State, after: State) -> None:
        """A breaker of ours changed; only what requests showed is worth telling."""
        if self._applying:
            return
        if after == "open" and before in ("closed", "half_open"):
            self.opened += 1
            self._outbox[id] = self._monotonic() + self._open_s
        elif after == "closed" and before == "half_open":
            self._outbox[id] = None
        else:
            return
        self._count(id)
        self._wake.set()

    def _count(self, id: str) -> None:
        self._changes += 1
        self._changed[id] = self._changes

    def _wanted(self, id: str) -> None:
        """A request was refused: there is a probe to be sent, now or after the pause."""
        self._wake.set()

    def _apply(self, id: str, left_s: float | None) -> None:
        self._applying = True  # or it would be published again as news of ours
        try:
            if left_s is None:
                self._breakers.close_remotely(id)
            else:
                self._breakers.open_remotely(id, left_s)
        finally:
            self._applying = False

    async def _publish(self) -> None:
        for id, until in list(self._outbox.items()):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._write(id, until)
            except (StoreUnavailable, TimeoutError) as error:
                self._lost(error)
                return
            self._failed = False
            if self._outbox.get(id, 0.0) == until:  # else it changed meanwhile: the next round's
                del self._outbox[id]

    async def _write(self, id: str, until: float | None) -> None:
        if until is None:
            self._posted.discard(id)
            await self._board.close(id, self._worker)
            return
        left_s = max(until - self._monotonic(), 0.0)
        await self._board.open(Notice(id=id, left_s=left_s, worker=self._worker, reason="failures"))
        self._posted.add(id)

    async def _claim(self, id: str) -> None:
        """Ask for leave. What is not known is taken as a yes: a deployment must not stay out with the store."""
        try:
            async with asyncio.timeout(ANSWER_S):
                won = await self._board.claim_probe(id, self._worker, self._open_s)
        except (StoreUnavailable, TimeoutError) as error:
            self._lost(error)
            self.alone += 1
            self._breakers.give_leave(id)
            return
        if won:
            self.claims_won += 1
            self._breakers.give_leave(id)
        else:
            self.claims_lost += 1
            self._breakers.deny_leave(id)

    def _lost(self, error: Exception) -> None:
        """The board cannot be asked: what it held may be gone when it is back."""
        self._posted.clear()
        self._reread_at = self._monotonic() + min(self._reread_s, BACK_S)
        if not self._failed:
            said = f"{type(error).__name__}: {error}"
            logger.warning("breakers are not shared for now", extra={"error": said})
        self._failed = True

    def _pause_s(self) -> float:
        """Until something is due."""
        left_s = self._reread_at - self._monotonic()
        if self._outbox:
            left_s = min(left_s, RETRY_S)
        return max(min([left_s, *self._breakers.wanting_leave().values()]), 0.0)
