"""Feedback on answers: who may give it, where it goes, and that strategies learn from it exactly once."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any, TypeGuard

from routeiq.access.authentication import Authenticator
from routeiq.access.principal import Principal
from routeiq.exceptions import InvalidRequest, NotFound, OverCapacity
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.small_body import small_json
from routeiq.ports import Clock
from routeiq.routing.router import Router
from routeiq.telemetry.decision_file import FeedbackTail, append_feedback
from routeiq.telemetry.decisions import DecisionLog, Kept
from routeiq.types import Decision, JsonObject

RATINGS = {"up": 1.0, "down": 0.0}
_ID = re.compile(r"[0-9a-f]{24}")


class Feedback:
    """`POST /routeiq/v1/feedback`, and what becomes of it.

    With a decision log every worker reads all feedback from one file, and the one that made the decision learns;
    so it does not matter which worker a client reaches. Without one, only the deciding worker can take it.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        router: Router,
        decisions: DecisionLog,
        clock: Clock,
        tail: FeedbackTail | None,
    ) -> None:
        self._authenticator = authenticator
        self._router = router
        self._decisions = decisions
        self._clock = clock
        self._tail = tail
        self.learned = 0
        self.refused = 0

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {"/routeiq/v1/feedback": {"POST": self.post}}

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take feedback on one of the caller's own decisions."""
        principal = self._authenticator.authenticate(scope["headers"])
        body = await small_json(scope, receive)
        event = self._event(principal, body)
        if self._tail is None:
            if not self._own(event):
                raise NotFound(
                    f"No decision {event['decision_id']!r} of this key in this worker's memory. With several "
                    "workers set routeiq.learning.decision_log, so that all of them see feedback."
                )
            self.apply(event)
        else:
            kept = self._decisions.find(event["decision_id"])
            if kept is not None and not self._may(event, kept):
                raise NotFound(f"No decision {event['decision_id']!r} of this key.")
            try:
                await asyncio.to_thread(append_feedback, self._tail.folder, event)
            except OSError as error:
                raise OverCapacity(
                    f"The feedback was not stored: {error.strerror or error}."
                ) from error
        await respond_json(
            send, {"decision_id": event["decision_id"], "score": event["score"]}, status=202
        )

    def _event(self, principal: Principal, body: JsonObject) -> dict[str, Any]:
        decision_id = body.get("decision_id")
        if not isinstance(decision_id, str) or not _ID.fullmatch(decision_id):
            raise InvalidRequest(
                "`decision_id` must be the value of an x-routeiq-decision-id header.",
                param="decision_id",
            )
        return {
            "decision_id": decision_id,
            "score": score_of(body),
            "time": self._clock.wall(),
            "key": principal.alias,
            "admin": principal.admin,
        }

    def _own(self, event: dict[str, Any]) -> bool:
        kept = self._decisions.find(event["decision_id"])
        return kept is not None and self._may(event, kept)

    def _may(self, event: dict[str, Any], kept: Kept) -> bool:
        return event.get("admin") is True or kept.record.get("key") == event.get("key")

    async def look(self) -> None:
        """Take what all workers were told since the last look."""
        if self._tail is not None:
            for event in await asyncio.to_thread(self._tail.read):
                self.apply(event)

    def apply(self, event: dict[str, Any]) -> None:
        """Learn from one event, if the decision is this worker's; each decision teaches once."""
        kept = self._decisions.find(str(event.get("decision_id")))
        score = event.get("score")
        if kept is None or not is_score(score):
            return
        if not self._may(event, kept):
            self.refused += 1
            return
        again = "feedback" in kept.record
        kept.record["feedback"] = float(score)
        if not again:
            self.learned += 1
            self._router.learn(kept.request, about_answer(kept), float(score))


def score_of(body: JsonObject) -> float:
    """The reward in [0, 1]: `score`, or a `rating` of up or down.

    Raises:
        InvalidRequest: neither or both are given, or it is out of range.
    """
    score, rating = body.get("score"), body.get("rating")
    if (score is None) == (rating is None):
        raise InvalidRequest("Give exactly one of `score` (0 to 1) and `rating` (up or down).")
    if rating is not None:
        if not isinstance(rating, str) or rating not in RATINGS:
            raise InvalidRequest("`rating` must be up or down.", param="rating")
        return RATINGS[rating]
    if not is_score(score):
        raise InvalidRequest("`score` must be a number from 0 to 1.", param="score")
    return float(score)


def is_score(value: object) -> TypeGuard[float]:
    """Whether this is a number in [0, 1]; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def about_answer(kept: Kept) -> Decision:
    """The decision with the deployment in front that really answered: feedback is about its answer."""
    answered = kept.outcome.deployment
    decision = kept.decision
    if answered is None or answered.id == decision.chosen.id:
        return decision
    mine = [one for one in decision.ranking if one.deployment.id == answered.id]
    others = [one for one in decision.ranking if one.deployment.id != answered.id]
    return replace(decision, ranking=(*mine, *others)) if mine else decision
