"""Feedback in the database: finding the decision, keeping the score, hearing what other workers were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from routeiq.exceptions import StoreUnavailable
from routeiq.state.decisions import DecisionLedger
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import Kept
from routeiq.types import JsonObject

MARGIN = 1_000
"""How far before the end a new worker begins: feedback may come before its first look."""
PAGE = 1_000
GRACE_S = 0.2
"""Added to the time in which another worker writes its records."""

Sleep = Callable[[float], Awaitable[None]]


class Undecided(Exception):
    """The database cannot be reached: it is unknown whether the decision is there, or the feedback stored."""


class FeedbackStore:
    """One worker's view.

    Args:
        ledger: the database.
        writer: this worker's records on their way to it.
        flush_s: how often workers write their records.
        sleep: waits; another one for tests.
    """

    def __init__(
        self,
        ledger: DecisionLedger,
        writer: DecisionStore,
        *,
        flush_s: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._patience_s = flush_s + GRACE_S
        self._sleep = sleep
        self._position: int | None = None

    async def record(self, decision_id: str, kept: Kept | None) -> JsonObject | None:
        """The record that the feedback is about. One that is in this worker's memory is written first.

        One that another worker made may still wait there: it is looked for twice.

        Raises:
            Undecided: the database cannot be reached.
        """
        try:
            if kept is not None:
                await self._writer.flush()
                return kept.record
            found = await self._ledger.get(decision_id)
            if found is None:
                await self._sleep(self._patience_s)
                found = await self._ledger.get(decision_id)
            return found
        except StoreUnavailable as error:
            raise Undecided(str(error)) from error

    async def keep(self, event: JsonObject) -> float | None:
        """Store a score; the one that it replaces.

        Raises:
            Undecided: the database cannot be reached; the same event may be sent again.
            KeyError: the decision is not there.
        """
        try:
            rated = await self._ledger.rate(event)
        except StoreUnavailable as error:
            raise Undecided(str(error)) from error
        if not rated.found:
            raise KeyError(event["decision_id"])
        return rated.before

    async def news(self) -> AsyncIterator[JsonObject]:
        """What came since the last call. What is older than this worker is about decisions of others.

        Raises:
            StoreUnavailable: the database cannot be reached; the next call goes on where this one ended.
        """
        if self._position is None:
            self._position = max(0, await self._ledger.feedback_end() - MARGIN)
        while True:
            page = await self._ledger.feedback_since(self._position, limit=PAGE)
            for event in page:
                self._position = event["position"]
                yield event
            if len(page) < PAGE:
                return
