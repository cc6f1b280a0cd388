from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.access.authentication import Authenticator
from routeiq.access.principal import Principal
from routeiq.exceptions import (
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    OverCapacity,
    RequestTooLarge,
)
from routeiq.gateway import feedback as module
from routeiq.gateway.asgi import Message
from routeiq.gateway.feedback import Feedback, about_answer, owns, score_of, texts_of
from routeiq.gateway.small_body import MAX_BYTES
from routeiq.ports import Header
from routeiq.telemetry.decision_file import FEEDBACK, FeedbackTail
from routeiq.telemetry.decisions import DecisionLog, Kept
from routeiq.types import Decision, Deployment, Outcome, Ranked, RoutingRequest
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, request

pytestmark = pytest.mark.anyio
ID = "0123456789abcdef01234567"
DECISION = Decision(
    id=ID,
    requested="auto",
    strategy="prior",
    reason="",
    ranking=tuple(Ranked(deployment=each, score=0.5, utility=0.5) for each in (CHEAP, STRONG)),
)


def outcome(answered: Deployment | None) -> Outcome:
    return Outcome(kind="success", status=200, deployment=answered, attempts=(), latency_ms=1.0)


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ({"score": 0}, 0.0),
        ({"score": 0.3}, 0.3),
        ({"score": 1}, 1.0),
        ({"rating": "up"}, 1.0),
        ({"rating": "down", "score": None}, 0.0),
    ],
)
def test_a_score_or_a_rating_is_the_reward(body: dict[str, Any], score: float) -> None:
    assert score_of(body) == score
    assert type(score_of(body)) is float


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        ({}, "exactly one", None),
        ({"score": None, "rating": None}, "exactly one", None),
        ({"score": 1, "rating": "up"}, "exactly one", None),
        ({"score": -0.01}, "from 0 to 1", "score"),
        ({"score": 1.01}, "from 0 to 1", "score"),
        ({"score": True}, "from 0 to 1", "score"),
        ({"score": "1"}, "from 0 to 1", "score"),
        ({"score": float("nan")}, "from 0 to 1", "score"),
        ({"rating": "Up"}, "up or down", "rating"),
        ({"rating": ["up"]}, "up or down", "rating"),
        ({"rating": 1}, "up or down", "rating"),
    ],
)
def test_what_is_no_score_is_refused_with_a_reason(
    body: dict[str, Any], says: str, param: str | None
) -> None:
    with pytest.raises(InvalidRequest, match=says) as raised:
        score_of(body)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("answered", "order"),
    [
        (None, ["cheap", "strong"]),
        (CHEAP, ["cheap", "strong"]),
        (STRONG, ["strong", "cheap"]),
        (MIDDLE, ["cheap", "strong"]),  # a fallback from outside the ranking
    ],
)
def test_feedback_is_about_the_model_that_answered(
    answered: Deployment | None, order: list[str]
) -> None:
    found = about_answer(Kept({}, request(), DECISION, outcome(answered)))
    assert [ranked.deployment.id for ranked in found.ranking] == order
    assert replace(found, ranking=DECISION.ranking) == DECISION


class Bench:
    """Feedback with one kept decision, made for the key "master"; notes what is learned."""

    def __init__(self, folder: Path | None = None, *, key: str = "master") -> None:
        self.decisions = DecisionLog(10)
        self.record: dict[str, Any] = {"decision_id": ID, "key": key}
        self.decisions.add(self.record, request("hello"), DECISION, outcome(STRONG))
        world = World([CHEAP, STRONG])
        self.lessons: list[tuple[str, str, float]] = []
        world.router.learn = self._learn  # type: ignore[method-assign]
        self.feedback = Feedback(
            authenticator=Authenticator(master_key="sk-a", admin_keys=["sk-b"]),
            router=world.router,
            decisions=self.decisions,
            clock=FakeClock(),
            tail=None if folder is None else FeedbackTail(folder),
        )

    def _learn(self, request: RoutingRequest, decision: Decision, reward: float) -> int:
        self.lessons.append((request.text, decision.chosen.id, reward))
        return 1

    async def post(
        self, body: Any, *, key: str = "sk-a", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": raw}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"headers": [(b"authorization", f"Bearer {key}".encode()), *headers]}
        await self.feedback.routes()["/routeiq/v1/feedback"]["POST"](scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    def give(self, **changes: Any) -> None:
        self.feedback.apply(
            {"decision_id": ID, "score": 0.5, "key": "master", "admin": False} | changes
        )


async def test_without_a_log_the_worker_that_decided_learns_at_once() -> None:
    bench = Bench()
    assert await bench.post({"decision_id": ID, "rating": "up"}) == (
        202,
        {"decision_id": ID, "score": 1.0},
    )
    assert bench.lessons == [("hello", "strong", 1.0)]
    assert bench.record["feedback"] == 1.0
    await bench.feedback.look()
    assert len(bench.lessons) == 1


async def test_without_a_log_a_decision_of_another_worker_is_not_found() -> None:
    with pytest.raises(NotFound, match="decision_log"):
        await Bench().post({"decision_id": "f" * 24, "score": 1})


async def test_with_a_log_feedback_is_stored_and_learned_at_the_next_look(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert (await bench.post({"decision_id": ID, "score": 0.25}, key="sk-b"))[0] == 202
    assert bench.lessons == []
    await bench.feedback.look()
    await bench.feedback.look()
    assert bench.lessons == [("hello", "strong", 0.25)]
    stored = json.loads((tmp_path / FEEDBACK).read_text())
    assert stored == {
        "kind": "feedback",
        "decision_id": ID,
        "score": 0.25,
        "time": 1_800_000_000.0,
        "key": "admin-1",
        "admin": True,
    }


async def test_feedback_for_another_worker_is_stored(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert (await bench.post({"decision_id": "f" * 24, "score": 1}))[0] == 202
    await bench.feedback.look()
    assert (bench.lessons, bench.feedback.learned, bench.feedback.refused) == ([], 0, 0)


async def test_feedback_that_cannot_be_stored_is_worth_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, event: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "append_feedback", full)
    with pytest.raises(OverCapacity, match="not stored: No space left"):
        await Bench(tmp_path).post({"decision_id": ID, "score": 1})


@pytest.mark.parametrize("decision", [None, 7, "", "0" * 23, "0" * 25, "A" * 24, f"{ID}\n"])
async def test_what_is_no_decision_id_is_refused(decision: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await Bench().post({"decision_id": decision, "score": 1})
    assert raised.value.param == "decision_id"


async def test_a_key_is_needed() -> None:
    with pytest.raises(InvalidApiKey):
        await Bench().post({"decision_id": ID, "score": 1}, key="sk-c")


async def test_large_bodies_are_refused_packed_or_not() -> None:
    body = orjson.dumps({"decision_id": ID, "score": 1, "comment": "x" * MAX_BYTES})
    packed = ((b"content-encoding", b"gzip"),)
    with pytest.raises(RequestTooLarge):
        await Bench().post(body)
    with pytest.raises(RequestTooLarge):
        await Bench().post(gzip.compress(body), headers=packed)


def test_a_decision_teaches_once_and_the_last_word_is_kept() -> None:
    bench = Bench()
    bench.give(score=0)
    bench.give(score=1.0)
    assert bench.lessons == [("hello", "strong", 0.0)]
    assert bench.record["feedback"] == 1.0
    assert bench.feedback.learned == 1


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """A decision of the key "team", in a gateway whose keys are not all admins."""
    bench = Bench(tmp_path, key="team")
    authenticate = Authenticator.authenticate

    async def ordinary(self: Authenticator, headers: Iterable[Header]) -> Principal:
        return replace(await authenticate(self, headers), admin=False)

    monkeypatch.setattr(Authenticator, "authenticate", ordinary)
    return bench


async def test_feedback_on_decisions_of_other_keys_is_refused(shared: Bench) -> None:
    with pytest.raises(NotFound, match="of this key"):
        await shared.post({"decision_id": ID, "score": 1})
    shared.give(key="master")
    assert (shared.lessons, shared.feedback.refused) == ([], 1)
    assert "feedback" not in shared.record
    shared.give(key="master", admin="yes")
    assert shared.feedback.refused == 2
    shared.give(key="team")
    shared.give(key="master", admin=True)
    assert (len(shared.lessons), shared.feedback.refused) == (1, 2)


@pytest.mark.parametrize(
    "changes",
    [{"decision_id": None}, {"decision_id": "f" * 24}, {"decision_id": ["x"]}]
    + [{"score": bad} for bad in (None, "1", 2, -1, True)],
)
def test_strange_events_in_the_file_teach_nothing(changes: dict[str, Any]) -> None:
    bench = Bench()
    bench.give(**changes)
    assert bench.lessons == []
    assert "feedback" not in bench.record


@pytest.mark.parametrize(
    ("principal", "record", "found"),
    [
        (Principal(alias="a", admin=True), {"key": "b"}, True),
        (Principal(alias="a"), {"key": "a"}, True),
        (Principal(alias="a"), {"key": "b"}, False),
        (Principal(alias="a"), {}, False),
        (Principal(alias="new", key_id="1"), {"key": "old", "key_id": "1"}, True),
        (Principal(alias="a", key_id="2"), {"key": "a", "key_id": "1"}, False),
        (Principal(alias="a", key_id="2"), {"key": "a"}, True),
    ],
)
def test_a_decision_belongs_to_the_key_that_asked(
    principal: Principal, record: dict[str, Any], found: bool
) -> None:
    assert owns(principal, record) is found


def test_label_and_comment_are_short_texts() -> None:
    given = {"label": "x" * 100, "comment": "é" * 2000, "other": 1}
    assert texts_of(given) == {"label": "x" * 100, "comment": "é" * 2000}
    assert texts_of({"label": None}) == {}
    for name, bad in (("label", 7), ("label", "x" * 101), ("comment", "x" * 2001)):
        with pytest.raises(InvalidRequest) as raised:
            texts_of({name: bad})
        assert raised.value.param == name


async def test_without_a_database_the_experiment_is_told_by_the_worker_that_decided() -> None:
    bench = Bench()
    told: list[tuple[str, str, float, float | None]] = []
    bench.feedback._rated = lambda *given: told.append(given)
    bench.record |= {"experiment": "ab", "label": "b:1"}
    await bench.post({"decision_id": ID, "score": 0.25})
    await bench.post({"decision_id": ID, "score": 0.75})
    assert told == [("ab", "b:1", 0.25, None), ("ab", "b:1", 0.75, 0.25)]
