"""Feedback with a database, here SQLite: two workers, one of which decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.access.authentication import Authenticator
from routeiq.access.principal import Principal
from routeiq.exceptions import InvalidRequest, NotFound, StateUnavailable
from routeiq.gateway import feedback_store as module
from routeiq.gateway.asgi import Message
from routeiq.gateway.feedback import Feedback
from routeiq.gateway.feedback_store import FeedbackStore
from routeiq.state.decisions import SqlDecisions
from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from routeiq.telemetry.decision_file import FEEDBACK, FeedbackTail
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import DecisionLog
from routeiq.types import Decision, Outcome, Ranked, RoutingRequest
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, STRONG, World, request

pytestmark = pytest.mark.anyio
OUTCOME = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)
KEYS = {
    b"Bearer sk-root": Principal(alias="root", admin=True),
    b"Bearer sk-a": Principal(alias="a", key_id="1"),
    b"Bearer sk-b": Principal(alias="b", key_id="2"),
}


class Doors(Authenticator):
    async def authenticate(self, headers: Any) -> Principal:
        return KEYS[dict(headers)[b"authorization"]]


class Worker:
    """A worker on the shared database; notes what it learns, and what experiments are told."""

    def __init__(self, database: SqliteDatabase, link: Link, folder: Path | None = None) -> None:
        self.link = link
        self.ledger = SqlDecisions(database)
        self.clock = FakeClock()
        self.memory = DecisionLog(100)
        self.writer = DecisionStore(self.ledger, queue=100, flush_s=0.5, clock=self.clock)
        self.lessons: list[tuple[str, float]] = []
        self.told: list[tuple[str, str, float, float | None]] = []
        self.slept: list[float] = []
        world = World([CHEAP, STRONG])
        world.router.learn = self._learn  # type: ignore[method-assign]
        self.while_asleep: Any = None
        self.feedback = Feedback(
            authenticator=Doors(master_key=None),
            router=world.router,
            decisions=self.memory,
            clock=self.clock,
            tail=None if folder is None else FeedbackTail(folder),
            store=FeedbackStore(self.ledger, self.writer, flush_s=0.5, sleep=self._sleep),
            rated=self._rated,
        )

    def _learn(self, request: RoutingRequest, decision: Decision, reward: float) -> int:
        self.lessons.append((decision.id, reward))
        return 1

    def _rated(
        self, experiment: str, label: str, score: float, before: float | None = None
    ) -> None:
        self.told.append((experiment, label, score, before))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.while_asleep is not None:
            await self.while_asleep()

    def decide(self, number: int, **more: Any) -> str:
        decision = Decision(
            id=f"{number:024x}",
            requested="auto",
            strategy="prior",
            reason="",
            ranking=(Ranked(deployment=CHEAP, score=0.5, utility=0.5),),
        )
        record = {"decision_id": decision.id, "time": self.clock.wall(), "key": "a"} | more
        self.memory.add(record, request("hi"), decision, OUTCOME)
        self.writer.add(record, request("hi"), decision, OUTCOME)
        return decision.id

    async def post(self, id: str, score: float, key: str = "a", **more: Any) -> tuple[int, Any]:
        raw = orjson.dumps({"decision_id": id, "score": score, **more})
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": raw}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"headers": [(b"authorization", f"Bearer sk-{key}".encode())]}
        await self.feedback.post(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    def cut(self) -> None:
        self.link.state, self.link.error = "down", "cut"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[SqliteDatabase, Link]]:
    clock = FakeClock()
    link = Link("database", clock)
    database = SqliteDatabase(tmp_path / "routeiq.db", link=link, clock=clock, durable=False)
    await database.start()
    yield database, link
    await asyncio.to_thread(database.close_sync)


@pytest.fixture
def one(opened: tuple[SqliteDatabase, Link]) -> Worker:
    return Worker(*opened)


@pytest.fixture
def two(opened: tuple[SqliteDatabase, Link]) -> Worker:
    return Worker(*opened)


async def test_the_worker_that_decided_learns_once_whoever_was_told(
    one: Worker, two: Worker
) -> None:
    id = one.decide(1)
    await one.writer.flush()
    answer = await two.post(id, 0.25, label="bad", comment="why")
    assert answer == (202, {"decision_id": id, "score": 0.25})
    await one.post(id, 0.75)
    for _ in range(2):
        await one.feedback.look()
        await two.feedback.look()
    assert (one.lessons, two.lessons) == ([(id, 0.75)], [])
    found = await one.ledger.get(id)
    assert found is not None
    assert [(each["key"], each["score"]) for each in found["feedback"]] == [("a", 0.75)]
    await one.post(id, 0.5, "root")
    await one.feedback.look()
    assert (one.lessons, one.feedback.learned) == ([(id, 0.75)], 1)
    assert one.memory.latest()[0]["feedback"] == 0.5


async def test_a_record_that_waits_is_written_before_its_feedback(one: Worker) -> None:
    id = one.decide(1)
    assert (await one.post(id, 1.0))[0] == 202
    found = await one.ledger.get(id)
    assert found is not None
    assert found["feedback"][0]["score"] == 1.0
    assert one.slept == []


async def test_a_record_that_another_worker_has_not_written_yet_is_waited_for(
    one: Worker, two: Worker
) -> None:
    id = one.decide(1)
    two.while_asleep = one.writer.flush
    assert (await two.post(id, 1.0))[0] == 202
    assert two.slept == [0.7]


async def test_only_ones_own_decisions_can_be_rated(one: Worker, two: Worker) -> None:
    id, renamed = one.decide(1), one.decide(2, key="before", key_id="1")
    await one.writer.flush()
    for worker in (one, two):
        for stranger, what in (("b", id), ("b", "f" * 24), ("a", "f" * 24)):
            with pytest.raises(NotFound, match="of this key"):
                await worker.post(what, 1.0, stranger)
    assert await one.ledger.feedback_since(0) == []
    assert (await two.post(id, 1.0, "root"))[0] == 202
    assert (await two.post(renamed, 1.0))[0] == 202
    await one.feedback.look()
    assert [lesson[0] for lesson in one.lessons] == [id, renamed]
    assert one.feedback.refused == 0


async def test_a_long_comment_is_refused(one: Worker) -> None:
    with pytest.raises(InvalidRequest, match="2,000"):
        await one.post(one.decide(1), 1.0, comment="x" * 2001)


async def test_without_the_database_feedback_is_worth_a_retry(one: Worker) -> None:
    id = one.decide(1)
    one.cut()
    for what in (id, "f" * 24):
        with pytest.raises(StateUnavailable) as raised:
            await one.post(what, 1.0)
        assert raised.value.retry_after_s == 1.0
    assert (one.lessons, one.told) == ([], [])


async def test_without_the_database_the_decision_log_takes_it(
    opened: tuple[SqliteDatabase, Link], tmp_path: Path
) -> None:
    worker = Worker(*opened, tmp_path / "log")
    id = worker.decide(1, experiment="ab", label="b:1")
    worker.cut()
    assert (await worker.post(id, 1.0))[0] == 202
    with pytest.raises(StateUnavailable):
        await worker.post("f" * 24, 1.0)
    assert [each["decision_id"] for each in FeedbackTail(tmp_path / "none").read()] == []
    lines = (tmp_path / "log" / FEEDBACK).read_bytes().splitlines()
    assert [json.loads(line)["decision_id"] for line in lines] == [id]
    worker.link.state = "up"
    await worker.feedback.look()
    assert worker.lessons == [(id, 1.0)]
    assert worker.told == [("ab", "b:1", 1.0, None)]


async def test_with_a_decision_log_too_each_decision_still_teaches_once(
    opened: tuple[SqliteDatabase, Link], tmp_path: Path
) -> None:
    worker = Worker(*opened, tmp_path / "log")
    id = worker.decide(1, experiment="ab", label="b:1")
    await worker.post(id, 0.5, comment="c")
    for _ in range(2):
        await worker.feedback.look()
    assert worker.lessons == [(id, 0.5)]
    assert worker.told == [("ab", "b:1", 0.5, None)]
    (line,) = (tmp_path / "log" / FEEDBACK).read_bytes().splitlines()
    assert json.loads(line)["comment"] == "c"


async def test_experiments_are_told_once_by_whoever_took_it(one: Worker, two: Worker) -> None:
    id = one.decide(1, experiment="ab", label="b:1")
    await one.writer.flush()
    await two.post(id, 0.5)
    await one.post(id, 1.0)
    await one.feedback.look()
    await two.feedback.look()
    assert two.told == [("ab", "b:1", 0.5, None)]
    assert one.told == [("ab", "b:1", 1.0, 0.5)]


async def test_a_restarted_worker_learns_nothing_from_before(one: Worker, two: Worker) -> None:
    id = one.decide(1)
    await one.post(id, 0.5)
    await two.feedback.look()
    new = two.decide(2)
    await one.writer.flush()
    await two.post(new, 1.0)
    await two.feedback.look()
    assert two.lessons == [(new, 1.0)]


async def test_the_worker_that_decided_and_is_told_learns_at_once_and_once(one: Worker) -> None:
    id = one.decide(1)
    await one.post(id, 0.25)
    assert one.lessons == [(id, 0.25)]
    await one.feedback.look()
    await one.post(id, 1.0)
    await one.feedback.look()
    assert one.lessons == [(id, 0.25)]
    assert one.memory.find(id).record["feedback"] == 1.0  # type: ignore[union-attr]


async def test_feedback_before_the_first_look_is_learnt(
    one: Worker, two: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    ids = [one.decide(number) for number in range(5)]
    await one.writer.flush()
    for id in ids:
        await two.post(id, 1.0)
    one.cut()
    with pytest.raises(Exception, match="cut"):
        await one.feedback.look()
    one.link.state = "up"
    await one.feedback.look()
    assert [lesson[0] for lesson in one.lessons] == ids


async def test_an_interrupted_look_goes_on_where_it_ended(
    one: Worker, two: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    ids = [one.decide(number) for number in range(5)]
    await one.writer.flush()
    for id in ids:
        await two.post(id, 1.0)
    since, calls = one.ledger.feedback_since, 0

    async def failing(position: int, *, limit: int = 1000) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            one.cut()
        return await since(position, limit=limit)

    monkeypatch.setattr(one.ledger, "feedback_since", failing)
    with pytest.raises(Exception, match="cut"):
        await one.feedback.look()
    assert len(one.lessons) == 2
    one.link.state = "up"
    await one.feedback.look()
    assert [lesson[0] for lesson in one.lessons] == ids


async def test_a_decision_whose_record_was_dropped_teaches_all_the_same(one: Worker) -> None:
    id = one.decide(1, experiment="ab", label="b:1")
    one.writer._queue.clear()
    assert (await one.post(id, 0.5))[0] == 202
    assert one.lessons == [(id, 0.5)]
    assert one.told == [("ab", "b:1", 0.5, None)]
