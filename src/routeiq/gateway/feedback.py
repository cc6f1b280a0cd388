"""Feedback on answers: who may give it, where it goes, and that strategies learn from it exactly once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeGuard

from routeiq.access.authentication import Authenticator
from routeiq.access.principal import Principal
from routeiq.exceptions import InvalidRequest, NotFound, OverCapacity, StateUnavailable
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.feedback_store import FeedbackStore, Undecided
from routeiq.gateway.small_body import small_json
from routeiq.ports import Clock
from routeiq.routing.router import Router
from routeiq.telemetry.decision_file import FeedbackTail, append_feedback
from routeiq.telemetry.decisions import DecisionLog, Kept
from routeiq.types import Decision, JsonObject

RATINGS = {"up": 1.0, "down": 0.0}
TEXTS = {"label": 100, "comment": 2_000}
"""Free text that may come with a score, and how many characters it may have."""
_ID = re.compile(r"[0-9a-f]{24}")


class OnRated(Protocol):
    """Told of each score of a request in an experiment; `before` is the score that it replaces."""

    def __call__(
        self, experiment: str, label: str, score: float, before: float | None = None
    ) -> None:
        """Take it."""
        ...


class Feedback:
    """`POST /routeiq/v1/feedback`, and what becomes of it.

    With a database every worker reads all feedback from it, and the one that made the decision learns; so it does
    not matter which worker a client reaches. The folder of a decision log does the same for the workers of one
    host, and takes feedback while the database is down. Without either, only the deciding worker can take it.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        router: Router,
        decisions: DecisionLog,
        clock: Clock,
        tail: FeedbackTail | None,
        store: FeedbackStore | None = None,
        rated: OnRated | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._router = router
        self._decisions = decisions
        self._clock = clock
        self._tail = tail
        self._store = store
        self._rated = rated
        self.learned = 0
        self.refused = 0

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {"/routeiq/v1/feedback": {"POST": self.post}}

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take feedback on one of the caller's own decisions."""
        principal = await self._authenticator.authenticate(scope["headers"])
        event = self._event(principal, await small_json(scope, receive))
        kept = self._decisions.find(event["decision_id"])
        if kept is not None and not owns(principal, kept.record):
            raise not_yours(event["decision_id"])
        if self._store is not None:
            await self._keep(self._store, principal, event, kept)
        elif self._tail is None and kept is None:
            raise NotFound(
                f"No decision {event['decision_id']!r} of this key in this worker's memory. With several "
                "workers set routeiq.learning.decision_log, so that all of them see feedback."
            )
        if self._tail is not None:
            await self._append(self._tail, event)
        elif (
            kept is not None
        ):  # decided here: learned at once, and passed over when it is read again
            self.apply(event, checked=True)
        await respond_json(
            send, {"decision_id": event["decision_id"], "score": event["score"]}, status=202
        )

    async def _keep(
        self, store: FeedbackStore, principal: Principal, event: JsonObject, kept: Kept | None
    ) -> None:
        """Put it into the database; the experiment is told here, because this happens once whoever decided."""
        try:
            record = await store.record(event["decision_id"], kept)
            if record is None or not owns(principal, record):
                raise not_yours(event["decision_id"])
            before = await store.keep(event)
        except Undecided as error:
            if kept is None or self._tail is None:
                raise StateUnavailable(
                    "The database cannot be reached, so the feedback was not stored. Send it again.",
                    retry_after_s=1.0,
                ) from error
            record, before = kept.record, kept.record.get("feedback")
        except (
            KeyError
        ):  # the queue was full and the record went: this worker's memory is all there is
            record, before = dict(kept.record) if kept else {}, None
        self._tell(record, event["score"], before)

    async def _append(self, tail: FeedbackTail, event: JsonObject) -> None:
        try:
            await asyncio.to_thread(append_feedback, tail.folder, event)
        except OSError as error:
            raise OverCapacity(
                f"The feedback was not stored: {error.strerror or error}."
            ) from error

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
            **texts_of(body),
        }

    async def look(self) -> None:
        """Take what all workers were told since the last look.

        Raises:
            OSError: the file cannot be read.
            StoreUnavailable: the database cannot be reached. Nothing is skipped.
        """
        if self._tail is not None:
            for event in await asyncio.to_thread(self._tail.read):
                self.apply(event)
        if self._store is not None:
            async for event in self._store.news():
                self.apply(event, checked=True)

    def apply(self, event: dict[str, Any], *, checked: bool = False) -> None:
        """Learn from one event, if the decision is this worker's; each decision teaches once.

        `checked`: whoever stored the event made sure that its key may give it.
        """
        kept = self._decisions.find(str(event.get("decision_id")))
        score = event.get("score")
        if kept is None or not is_score(score):
            return
        mine = event.get("admin") is True or kept.record.get("key") == event.get("key")
        if not (checked or mine):
            self.refused += 1
            return
        before = kept.record.get("feedback")
        kept.record["feedback"] = float(score)
        if self._store is None:
            self._tell(kept.record, float(score), before)
        if before is None:
            self.learned += 1
            self._router.learn(kept.request, about_answer(kept), float(score))

    def _tell(self, record: Mapping[str, Any], score: float, before: float | None) -> None:
        experiment, label = record.get("experiment"), record.get("label")
        if self._rated is not None and experiment is not None and label is not None:
            self._rated(experiment, label, score, before)


def owns(principal: Principal, record: Mapping[str, Any]) -> bool:
    """Whether the decision was made for this caller. An alias may be given anew, an id is not."""
    if principal.admin:
        return True
    if principal.key_id is not None and record.get("key_id") is not None:
        return bool(record["key_id"] == principal.key_id)
    return bool(record.get("key") == principal.alias)


def not_yours(decision_id: str) -> NotFound:
    """The same for decisions of others and for those that nobody made."""
    return NotFound(f"No decision {decision_id[:100]!r} of this key.")


def texts_of(body: JsonObject) -> dict[str, str]:
    """`label` and `comment`, where they are given.

    Raises:
        InvalidRequest: one is no text, or too long.
    """
    found = {}
    for name, longest in TEXTS.items():
        text = body.get(name)
        if text is None:
            continue
        if not isinstance(text, str) or len(text) > longest:
            raise InvalidRequest(
                f"`{name}` must be text of at most {longest:,} characters.", param=name
            )
        found[name] = text
    return found


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
