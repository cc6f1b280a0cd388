from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.stores import Decisions
from routeiq.telemetry import decision_store as module
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.stored_record import stored_record
from routeiq.types import Decision, JsonObject, Outcome, Ranked, RoutingRequest
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, STRONG, request

pytestmark = pytest.mark.anyio
DECISION = Decision(
    id="d",
    requested="auto",
    strategy="prior",
    reason="",
    ranking=tuple(Ranked(deployment=each, score=0.5, utility=0.5) for each in (CHEAP, STRONG)),
)
OUTCOME = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)


class FakeDecisions:
    """Keeps what it is given. `fails` are errors of the next calls; `commits` says whether those were stored."""

    def __init__(self) -> None:
        self.kept: dict[str, JsonObject] = {}
        self.batches: list[int] = []
        self.fails: list[Exception] = []
        self.commits = False
        self.refuses: set[str] = set()
        self.gate: asyncio.Event | None = None

    async def add(self, records: Sequence[JsonObject]) -> None:
        self.batches.append(len(records))
        if self.gate is not None:
            await self.gate.wait()
        if self.refuses & {one["decision_id"] for one in records}:
            raise ValueError("invalid byte sequence")
        for one in records:
            orjson.dumps(one)
        error = self.fails.pop(0) if self.fails else None
        if error is None or self.commits:
            for one in records:
                self.kept.setdefault(one["decision_id"], one)
        if error is not None:
            raise error


def writer(
    store: FakeDecisions, *, queue: int = 1000, clock: FakeClock | None = None, **more: Any
) -> DecisionStore:
    decisions = cast(Decisions, store)
    return DecisionStore(decisions, queue=queue, flush_s=0.01, clock=clock or FakeClock(), **more)


def fill(
    store: DecisionStore, numbers: range, asked: RoutingRequest | None = None, **more: Any
) -> None:
    for number in numbers:
        record = {"decision_id": f"d{number}", "time": float(number), **more}
        store.add(record, asked or request("hi"), DECISION, OUTCOME)


def kept(store: FakeDecisions) -> list[int]:
    return sorted(int(id[1:]) for id in store.kept)


async def test_what_waits_is_written_in_batches(clock: FakeClock) -> None:
    fake = FakeDecisions()
    store = writer(fake, queue=2000, clock=clock)
    fill(store, range(1200))
    assert (len(store), store.report()["waiting"], fake.batches) == (1200, 1200, [])
    await store.flush()
    assert fake.batches == [500, 500, 200]
    assert kept(fake) == list(range(1200))
    assert store.report() == {
        "waiting": 0,
        "written": 1200,
        "dropped": 0,
        "unusable": 0,
        "written_at": clock.wall(),
        "error": None,
    }
    await store.flush()
    assert len(fake.batches) == 3


async def test_rendering_is_not_done_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    render = stored_record

    def watched(*given: Any, **more: Any) -> JsonObject:
        threads.add(threading.get_ident())
        return render(*given, **more)

    monkeypatch.setattr(module, "stored_record", watched)
    store = writer(FakeDecisions())
    fill(store, range(20))
    await store.flush()
    assert threads
    assert threading.get_ident() not in threads


async def test_the_oldest_are_dropped_and_counted() -> None:
    fake = FakeDecisions()
    store = writer(fake, queue=10)
    fill(store, range(25))
    assert (len(store), store.dropped) == (10, 15)
    await store.flush()
    assert kept(fake) == list(range(15, 25))


async def test_prompts_that_wait_are_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARS", 100)
    fake = FakeDecisions()
    store = writer(fake)
    fill(store, range(10), request("x" * 30, system="y" * 10))
    assert (len(store), store.dropped) == (2, 8)
    await store.flush()
    fill(store, range(10, 12), request("x" * 50))
    assert (len(store), store.dropped) == (2, 8)
    fill(store, range(12, 13), request("x" * 500))
    assert (len(store), store.dropped) == (1, 10)


async def test_an_outage_keeps_what_fits_and_everything_is_written_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = FakeDecisions()
    store = writer(fake, queue=600)
    fake.fails = [StoreUnavailable("down")] * 3
    fill(store, range(550))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.flush()
    fill(store, range(550, 1150))  # 500 are in the batch that is tried again and again
    assert (len(store), store.dropped) == (1100, 50)
    await store.flush()
    assert kept(fake) == [*range(500), *range(550, 1150)]
    assert (store.written, store.dropped, len(store)) == (1100, 50, 0)
    assert fake.batches == [500] * 4 + [500, 100]


async def test_a_batch_whose_answer_was_lost_is_written_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fake.fails, fake.commits = [StoreUnavailable("no answer")], True
    fill(store, range(3))
    await store._try()
    await store._try()
    assert (fake.batches, kept(fake), store.written) == ([3, 3], [0, 1, 2], 3)
    assert [one.message for one in caplog.records] == [
        "decision records wait",
        "decision records are written again",
    ]


async def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fake.fails = [StoreUnavailable("down"), StoreUnavailable("down"), RuntimeError("?")]
    fill(store, range(3))
    await store._try()
    assert store.report()["error"] == "down"
    await store._try()
    assert [one.message for one in caplog.records] == ["decision records wait"]


async def test_a_record_that_cannot_be_rendered_is_dropped_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fill(store, range(3))
    fill(store, range(3, 4), odd=object())
    broken = RoutingRequest(id="r", operation="chat", model="auto", text=cast(str, b"?"))
    fill(store, range(4, 5), broken)
    fill(store, range(5, 6))
    await store.flush()
    assert kept(fake) == [0, 1, 2, 5]
    assert (store.written, store.unusable, len(store)) == (4, 2, 0)
    assert [one.message for one in caplog.records] == ["decision records cannot be stored"] * 2


async def test_records_that_the_database_refuses_are_found_by_halving() -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fake.refuses = {"d7", "d300"}
    fill(store, range(400))
    await store.flush()
    assert kept(fake) == sorted({*range(400)} - {7, 300})
    assert (store.written, store.unusable) == (398, 2)
    assert len(fake.batches) < 50


async def test_an_outage_while_halving_forgets_and_counts_nothing_twice() -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fake.refuses = {"d0"}
    fill(store, range(8))
    fake.fails = [StoreUnavailable("down")]
    for _ in range(10):
        try:
            await store.flush()
            break
        except StoreUnavailable:
            continue
    assert kept(fake) == list(range(1, 8))
    assert (store.written, store.unusable, len(store)) == (7, 1, 0)


async def test_a_database_that_refuses_everything_is_not_asked_for_each_record() -> None:
    fake = FakeDecisions()
    store = writer(fake)
    fake.refuses = {f"d{n}" for n in range(500)}
    fill(store, range(500))
    await store.flush()
    assert (store.unusable, store.written, len(store)) == (500, 0, 0)
    assert len(fake.batches) < 50


async def test_being_cancelled_while_writing_forgets_nothing() -> None:
    fake = FakeDecisions()
    fake.gate = asyncio.Event()
    store = writer(fake)
    fill(store, range(3))
    task = asyncio.create_task(store.flush())
    while not fake.batches:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(store) == 3
    assert [one["decision_id"] for one in store.waiting()] == ["d0", "d1", "d2"]
    fake.gate = None
    await store.flush()
    assert (kept(fake), len(store)) == ([0, 1, 2], 0)


async def test_being_cancelled_while_rendering_forgets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeDecisions()
    store = writer(fake)
    begun, go_on = threading.Event(), threading.Event()
    render = stored_record

    def slow(*given: Any, **more: Any) -> JsonObject:
        begun.set()
        go_on.wait(10)
        return render(*given, **more)

    monkeypatch.setattr(module, "stored_record", slow)
    fill(store, range(3))
    task = asyncio.create_task(store.flush())
    await asyncio.to_thread(begun.wait, 10)
    assert len(store) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert [one["decision_id"] for one in store.waiting()] == ["d0", "d1", "d2"]
    await store.flush()
    assert kept(fake) == [0, 1, 2]


async def test_run_writes_until_cancelled_and_survives_errors() -> None:
    fake = FakeDecisions()
    fake.fails = [StoreUnavailable("down"), RuntimeError("defect")]
    store = writer(fake)
    fill(store, range(3))
    task = asyncio.create_task(store.run())
    while len(store):
        await asyncio.sleep(0.001)
    task.cancel()
    assert kept(fake) == [0, 1, 2]


async def test_closing_writes_everything() -> None:
    fake = FakeDecisions()
    fake.fails = [StoreUnavailable("down")]
    store = writer(fake)
    fill(store, range(700))
    await store.close(10.0)
    assert (kept(fake), store.dropped) == (list(range(700)), 0)


async def test_what_closing_could_not_write_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeDecisions()
    fake.gate = asyncio.Event()
    store = writer(fake)
    fill(store, range(700))
    await store.close(0.01)
    assert (store.dropped, len(store)) == (700, 0)
    assert caplog.records[-1].message == "decision records lost"


@pytest.mark.parametrize("features", ["none", "summary", "vector"])
@pytest.mark.parametrize("text", [True, False])
async def test_what_is_kept_of_the_prompt_is_configured(features: Any, text: bool) -> None:
    fake = FakeDecisions()
    store = writer(
        fake, features=features, text=text, encode=lambda request: ("print", request.text.encode())
    )
    record: Mapping[str, Any] = {"feedback": 1.0, "session_id": "s"}
    fill(store, range(1), request("secret prompt"), **record)
    await store.flush()
    stored = fake.kept["d0"]
    assert stored["kind"] == "decision"
    assert stored["chosen"] == "cheap"
    assert [one["model"] for one in stored["candidates"]] == ["cheap", "strong"]
    assert stored["attempts_made"] == []
    assert "feedback" not in stored
    assert ("prompt" in stored, "route_text_hash" in stored) == ((features != "none"),) * 2
    assert ("features" in stored, "fingerprint" in stored) == ((features == "vector"),) * 2
    assert stored.get("route_text") == ("secret prompt" if text else None)
    if not text and features != "vector":
        assert b"secret" not in orjson.dumps(stored)
