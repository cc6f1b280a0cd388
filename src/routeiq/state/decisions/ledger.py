"""What the gateway needs of a decision log beyond `stores.Decisions`."""

from __future__ import annotations

from typing import Protocol

from routeiq.stores import Decisions
from routeiq.types import JsonObject
from routeiq.values import value


@value
class Rated:
    """What feedback met: whether the decision is there, and the score that it had until then, if any.

    Each piece of feedback replaces the one before as the decision's score, whoever gave it.
    """

    found: bool
    before: float | None = None


class DecisionLedger(Decisions, Protocol):
    """Records and feedback that last."""

    async def rate(self, event: JsonObject) -> Rated:
        """Keep feedback, as `feedback` does, and say what was there; of several at once one is first."""
        ...

    async def feedback_end(self) -> int:
        """The position of the last feedback: where a reader begins who wants only what comes from now on."""
        ...

    async def prepare(self, now_s: float) -> None:
        """Make room for the records of the next days."""
        ...
