"""From requests to the decision log in the database: a bounded queue, and batches that are written off the loop.

A request only appends to the queue. While the database is down records wait; when the queue is full the oldest go,
and are counted. A batch that may have been written is written again: the database skips what it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Decisions
from routeiq.telemetry.decision_file import Encode
from routeiq.telemetry.decisions import Kept
from routeiq.telemetry.stored_record import Features, stored_record
from routeiq.types import Decision, JsonObject, Outcome, RoutingRequest

logger = logging.getLogger("routeiq.telemetry")
BATCH = 500
"""Records in one transaction."""
MAX_CHARS = 64 * 1024 * 1024
"""Characters of prompts that wait at most, whatever the number of records: an outage must not eat the memory."""
REFUSALS = 8
"""Records of one batch that the database may refuse one by one; after that the rest is given up with them."""
YIELD_EVERY = 16
"""Records rendered before the event loop may have the interpreter; by itself a thread holds it for 5 ms."""
RETRY_S = 0.1
_Queued = tuple[dict[str, Any], RoutingRequest, Decision, Outcome]


class DecisionStore:
    """One worker's writer.

    Args:
        decisions: the database.
        queue: records that wait at most, beside the batch that is being written.
        flush_s: how often `run` writes.
        clock: says when something was written last.
        features: what is kept of the prompt.
        text: keep the prompt itself.
        encode: gives the features for `vector`.
    """

    def __init__(
        self,
        decisions: Decisions,
        *,
        queue: int,
        flush_s: float,
        clock: Clock,
        features: Features = "summary",
        text: bool = False,
        encode: Encode | None = None,
    ) -> None:
        self._decisions = decisions
        self._limit = queue
        self._flush_s = flush_s
        self._clock = clock
        self._features = features
        self._text = text
        self._encode = encode
        self._queue: deque[_Queued] = deque()
        self._chars = 0
        self._taken: list[Kept] = []
        self._batch: list[JsonObject] = []
        self._turn = asyncio.Lock()
        self.written = 0
        self.dropped = 0
        self.unusable = 0
        self.error: str | None = None
        self.written_at: float | None = None

    def add(
        self,
        record: dict[str, Any],
        request: RoutingRequest,
        decision: Decision,
        outcome: Outcome,
    ) -> None:
        """Queue one decision; nothing is rendered or copied here."""
        queue = self._queue
        queue.append((record, request, decision, outcome))  # a `Kept` takes twice as long
        self._chars += len(request.text) + len(request.system)
        if len(queue) > self._limit or self._chars > MAX_CHARS:
            self._shrink()

    def _shrink(self) -> None:
        while len(self._queue) > self._limit or (self._chars > MAX_CHARS and len(self._queue) > 1):
            self._pop()
            self.dropped += 1

    def _pop(self) -> Kept:
        kept = Kept._make(self._queue.popleft())
        self._chars -= len(kept.request.text) + len(kept.request.system)
        return kept

    def __len__(self) -> int:
        return len(self._queue) + len(self._taken) + len(self._batch)

    def waiting(self) -> list[JsonObject]:
        """The records that are not known to be stored, oldest first."""
        queued = [kept[0] for kept in (*self._taken, *self._queue)]
        return [*self._batch, *queued]

    def report(self) -> dict[str, Any]:
        """For the admin API and metrics."""
        return {
            "waiting": len(self),
            "written": self.written,
            "dropped": self.dropped,
            "unusable": self.unusable,
            "written_at": self.written_at,
            "error": self.error,
        }

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self._try()

    async def _try(self) -> None:
        """Fire-wall: whatever happens, the next round tries again."""
        try:
            await self.flush()
        except StoreUnavailable as error:
            self._failed(str(error))
        except Exception as error:
            if self.error is None:
                logger.exception("decision records cannot be written")
            self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, error: str) -> None:
        if self.error is None:
            logger.error("decision records wait", extra={"error": error, "waiting": len(self)})
        self.error = error

    async def flush(self) -> None:
        """Write what waits now; what comes meanwhile waits for the next time.

        Raises:
            StoreUnavailable: the rest waits on.
        """
        async with self._turn:
            left = len(self)
            while left > 0 and len(self):
                left -= await self._write()

    async def close(self, timeout_s: float) -> None:
        """Write everything, in at most `timeout_s` seconds; what is left then is lost, and counted."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._try()
                while len(self):
                    await asyncio.sleep(RETRY_S)
                    await self._try()
        except TimeoutError:
            self.dropped += len(self)
            logger.error("decision records lost", extra={"records": len(self)})
            self._queue.clear()
            self._taken, self._batch, self._chars = [], [], 0

    async def _write(self) -> int:
        """Write one batch; how many records it had. Survives being cancelled anywhere: nothing is forgotten."""
        if not self._batch:
            if not self._taken:
                self._taken = [self._pop() for _ in range(min(BATCH, len(self._queue)))]
            size = len(self._taken)
            rendered, poison = await asyncio.to_thread(self._render, self._taken)
            self._batch, self._taken = rendered, []
            self._refused(poison)
        else:
            size = len(self._batch)
        if self._batch:
            await self._store()
        return size

    def _render(self, taken: Sequence[Kept]) -> tuple[list[JsonObject], list[str]]:
        """Fire-wall: one record that cannot be rendered costs that record only. Runs in a thread."""
        rendered, poison = [], []
        for number, kept in enumerate(taken, 1):
            try:
                rendered.append(
                    stored_record(
                        kept, features=self._features, text=self._text, encode=self._encode
                    )
                )
            except Exception as error:
                poison.append(f"{type(error).__name__}: {error}")
            if number % YIELD_EVERY == 0:
                time.sleep(0)
        return rendered, poison

    async def _store(self) -> None:
        """Write the batch; where the database refuses it, find the records that are to blame by halving."""
        parts, poison = [list(self._batch)], list[str]()
        while parts:
            part = parts.pop()
            try:
                await self._decisions.add(part)
            except StoreUnavailable:
                self._refused(poison)
                raise
            except Exception as error:
                half = len(part) // 2
                if half and len(poison) < REFUSALS:
                    parts += [part[half:], part[:half]]
                    continue
                poison += [f"{type(error).__name__}: {error}"] * len(part)
                gone = {id(one) for one in part}
                self._batch = [one for one in self._batch if id(one) not in gone]
        self.written += len(self._batch)
        self._batch = []
        self.written_at = self._clock.wall()
        if self.error is not None:
            logger.warning("decision records are written again")
        self.error = None
        self._refused(poison)

    def _refused(self, poison: Sequence[str]) -> None:
        if poison:
            self.unusable += len(poison)
            said = [reason[:200] for reason in islice(dict.fromkeys(poison), 3)]
            logger.error(
                "decision records cannot be stored", extra={"records": len(poison), "errors": said}
            )
