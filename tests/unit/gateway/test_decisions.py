from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from routeiq.access.authentication import Authenticator
from routeiq.access.principal import Principal
from routeiq.exceptions import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StateUnavailable,
    StoreUnavailable,
)
from routeiq.gateway.asgi import Message
from routeiq.gateway.decision_query import Wanted, matches, time_of, wanted
from routeiq.gateway.decisions import DecisionsApi
from routeiq.gateway.watch import SCOPE_KEY
from routeiq.state.decisions import SqlDecisions, export
from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import DecisionLog
from routeiq.types import Decision, Outcome, Ranked
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, STRONG, request

pytestmark = pytest.mark.anyio
START = 1_800_000_000.0
OUTCOME = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)
KEYS = {
    b"root": Principal(alias="root", admin=True),
    b"reader": Principal(alias="reader", permissions=frozenset({"decisions.read"})),
    b"a": Principal(alias="a"),
    b"b": Principal(alias="b"),
}


class Doors(Authenticator):
    async def authenticate(self, headers: Any) -> Principal:
        return KEYS[dict(headers)[b"authorization"]]


class Bench:
    def __init__(self, link: Link, ledger: SqlDecisions | None) -> None:
        self.link = link
        self.ledger = ledger
        self.memory = DecisionLog(100)
        self.writer = (
            None
            if ledger is None
            else DecisionStore(ledger, queue=100, flush_s=1.0, clock=FakeClock())
        )
        self.api = DecisionsApi(
            authenticator=Doors(master_key=None),
            decisions=ledger,
            memory=self.memory,
            store_writer=self.writer,
        )

    def decide(self, number: int, *, here: bool = True, **more: Any) -> dict[str, Any]:
        """Make a decision; `here` remembers it in memory, as the worker that made it does."""
        decision = Decision(
            id=f"d{number}",
            requested="auto",
            strategy="prior",
            reason="",
            ranking=tuple(
                Ranked(deployment=each, score=0.5, utility=0.5) for each in (CHEAP, STRONG)
            ),
        )
        record = {"decision_id": decision.id, "time": START + number, "key": "a"} | more
        if here:
            self.memory.add(record, request("hi"), decision, OUTCOME)
        if self.writer is not None:
            self.writer.add(record, request("hi"), decision, OUTCOME)
        return record

    async def written(self) -> None:
        assert self.writer is not None
        await self.writer.flush()

    async def ask(
        self, what: str = "", query: str = "", key: bytes = b"root", connection: Any = None
    ) -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        path = "/routeiq/v1/decisions" + (what if what in ("", "/export") else "/{id}")
        found = {
            "headers": [(b"authorization", key)],
            "query_string": query.encode(),
            "path_params": {"id": what},
            SCOPE_KEY: connection,
        }
        await self.api.routes()[path]["GET"](found, receive, send)
        return sent

    async def json(self, what: str = "", query: str = "", key: bytes = b"root") -> Any:
        sent = await self.ask(what, query, key)
        assert sent[0]["status"] == 200
        return json.loads(sent[1]["body"])

    async def numbers(self, query: str = "") -> list[int]:
        found = await self.json(query=query)
        return [int(one["decision_id"][1:]) for one in found["data"]]

    async def exported(self, query: str = "") -> list[dict[str, Any]]:
        sent = await self.ask("/export", query)
        assert sent[-1].get("more_body", False) is False
        body = b"".join(one["body"] for one in sent[1:])
        return [json.loads(line) for line in body.splitlines()]

    def cut(self) -> None:
        self.link.state, self.link.error = "down", "cut"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    link = Link("database", FakeClock())
    database = SqliteDatabase(tmp_path / "routeiq.db", link=link, clock=FakeClock(), durable=False)
    await database.start()
    yield Bench(link, SqlDecisions(database))
    await asyncio.to_thread(database.close_sync)


@pytest.fixture
def alone() -> Bench:
    """A gateway that stores nothing."""
    return Bench(Link("database", FakeClock()), None)


async def test_what_is_stored_and_what_waits_is_one_list(bench: Bench) -> None:
    bench.decide(1)
    bench.decide(3, here=False)
    await bench.written()
    bench.decide(2)
    bench.decide(4)
    assert await bench.numbers() == [4, 3, 2, 1]
    assert await bench.numbers("limit=2") == [4, 3]
    found = await bench.json(query="limit=1")
    assert found == {"data": [found["data"][0]], "next": f"{START + 4!r}:d4"}
    assert "candidates" not in found["data"][0]


async def test_pages_are_followed_by_cursor(bench: Bench) -> None:
    for number in range(7):
        bench.decide(number, time=START + number // 3)
        if number == 4:
            await bench.written()
    seen, query = [], "limit=2"
    while True:
        found = await bench.json(query=query)
        seen += [one["decision_id"] for one in found["data"]]
        if found["next"] is None:
            break
        query = f"limit=2&cursor={found['next']}"
    assert seen == [f"d{n}" for n in range(6, -1, -1)]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("key=b", [2]),
        ("status=502", [3]),
        ("outcome=error", [3]),
        ("model=cheap&key=a", [3, 1]),
        ("experiment=ab&variant=x", [1]),
        ("since=1800000002", [3, 2]),
        ("since=2027-01-15T08:00:02Z&until=2027-01-15T08:00:03", [2]),
        ("session_id=none", []),
    ],
)
async def test_filters_hold_in_the_store_and_in_memory(
    bench: Bench, query: str, found: list[int], written: bool
) -> None:
    bench.decide(1, model="cheap", experiment="ab", variant="x")
    bench.decide(2, key="b")
    bench.decide(3, model="cheap", status=502, outcome="error")
    if written:
        await bench.written()
    assert await bench.numbers(query) == found


async def test_while_the_database_is_down_there_is_memory(bench: Bench) -> None:
    bench.decide(1, here=False)
    await bench.written()
    bench.decide(2)
    bench.cut()
    found = await bench.json()
    assert [one["decision_id"] for one in found["data"]] == ["d2"]
    assert found["degraded"] is True
    assert (await bench.json("d2"))["degraded"] is True
    with pytest.raises(NotFound, match="in the database"):
        await bench.json("d1")
    with pytest.raises(StateUnavailable):
        await bench.exported()


async def test_one_decision_is_whole(bench: Bench) -> None:
    record = bench.decide(1)
    waiting = await bench.json("d1")
    await bench.written()
    assert bench.ledger is not None
    event = {"decision_id": "d1", "key": "a", "score": 0.25, "time": START, "comment": "c"}
    await bench.ledger.feedback(event)
    await bench.ledger.feedback({**event, "key": "root", "score": 1.0})
    record["feedback"] = 0.25  # what this worker heard last
    stored = await bench.json("d1")
    assert [one["model"] for one in stored["candidates"]] == ["cheap", "strong"]
    assert waiting["candidates"] == stored["candidates"]
    assert "feedback" not in waiting
    assert stored["feedback"] == 1.0
    assert [(one["key"], one["score"]) for one in stored["ratings"]] == [("a", 0.25), ("root", 1.0)]
    (listed,) = (await bench.json())["data"]
    assert listed["feedback"] == 1.0


async def test_what_only_the_queue_has_is_found(bench: Bench) -> None:
    bench.decide(1, here=False)
    assert (await bench.json("d1"))["decision_id"] == "d1"


async def test_without_a_store_there_is_memory(alone: Bench) -> None:
    alone.decide(1)["feedback"] = 1.0
    found = await alone.json()
    assert [one["decision_id"] for one in found["data"]] == ["d1"]
    assert "degraded" not in found
    assert (await alone.json("d1"))["feedback"] == 1.0
    (line,) = await alone.exported()
    assert (line["kind"], line["decision_id"], "feedback" in line) == ("decision", "d1", False)
    with pytest.raises(NotFound, match="memory"):
        await alone.json("d2")


async def test_callers_see_their_own_and_readers_see_all(bench: Bench) -> None:
    bench.decide(1)
    for _ in range(2):
        assert (await bench.json("d1", key=b"a"))["decision_id"] == "d1"
        assert (await bench.json("d1", key=b"reader"))["decision_id"] == "d1"
        errors = []
        for what in ("d1", "d9"):
            with pytest.raises(NotFound) as raised:
                await bench.json(what, key=b"b")
            errors.append(raised.value.message.replace(what, ""))
        assert errors[0] == errors[1]
        for what in ("", "/export"):
            with pytest.raises(PermissionDenied):
                await bench.ask(what, key=b"a")
            assert await bench.ask(what, key=b"reader")
        await bench.written()


async def test_an_export_has_every_page_and_the_feedback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.pages, "__kwdefaults__", {"size": 2})
    for number in range(5):
        bench.decide(number, key="a" if number else "b")
    assert bench.ledger is not None
    await bench.written()
    await bench.ledger.feedback({"decision_id": "d3", "key": "a", "score": 0.5, "time": START})
    found = await bench.exported()
    assert [(one["kind"], one["decision_id"]) for one in found] == [
        ("decision", "d4"),
        ("decision", "d3"),
        ("feedback", "d3"),
        ("decision", "d2"),
        ("decision", "d1"),
        ("decision", "d0"),
    ]
    assert [one["decision_id"] for one in await bench.exported("key=b&format=jsonl")] == ["d0"]
    assert await bench.exported("until=1") == []
    with pytest.raises(InvalidRequest, match="jsonl"):
        await bench.exported("format=csv")


async def test_an_export_ends_when_its_reader_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        on_disconnect = None

        def gone(self) -> bool:
            return True

    monkeypatch.setattr(export.pages, "__kwdefaults__", {"size": 2})
    for number in range(5):
        bench.decide(number)
    sent = await bench.ask("/export", connection=Gone())
    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]


async def test_an_export_that_breaks_off_is_not_ended_properly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.pages, "__kwdefaults__", {"size": 2})
    for number in range(5):
        bench.decide(number)
    assert bench.ledger is not None
    search, calls = bench.ledger.search, 0

    async def failing(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreUnavailable("cut")
        return await search(*given, **more)

    monkeypatch.setattr(bench.ledger, "search", failing)
    with pytest.raises(StoreUnavailable):
        await bench.ask("/export")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=1001", "limit"),
        (b"limit=x", "limit"),
        (b"limit=%C2%B2", "limit"),
        (b"limit=" + b"9" * 50, "limit"),
        (b"status=ok", "status"),
        (b"status=2000", "status"),
        (b"since=soon", "since"),
        (b"until=nan", "until"),
        (b"cursor=5", "cursor"),
        (b"cursor=x:y", "cursor"),
        (b"cursor=inf:y", "cursor"),
        (b"colour=red", "colour"),
        (b"before=d1", "before"),
    ],
)
def test_what_cannot_be_used_is_named(query: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        wanted(query)
    assert raised.value.param == param


def test_a_query_string_becomes_a_query() -> None:
    assert wanted(b"") == Wanted(query={})
    assert wanted(b"limit=7&status=200&key=a%20b&cursor=12.5:d1") == Wanted(
        query={"status": 200, "key": "a b", "before_time": 12.5, "before": "d1"}, limit=7
    )
    assert time_of("1970-01-02") == 86_400
    assert time_of("1970-01-01T01:00+01:00") == 0


def test_records_in_memory_are_compared_as_the_database_does() -> None:
    record = {"decision_id": "d2", "time": 5.0, "key": "a"}
    assert matches(record, {"since": 5.0, "until": 5.1, "key": "a"})
    assert not matches(record, {"until": 5.0})
    assert not matches(record, {"since": 5.1})
    assert not matches(record, {"team": "red"})
    assert matches(record, {"before_time": 5.0, "before": "d3"})
    assert not matches(record, {"before_time": 5.0, "before": "d2"})
