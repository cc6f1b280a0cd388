"""`Audit`, `Roster` and `Decisions`: what is only ever added, or reported again."""

from __future__ import annotations

import asyncio
from typing import Any

from routeiq.stores import Change, Worker
from routeiq.types import JsonObject

from .connections import StoreCheck, StoreFactory, require, same

SINCE = 1_700_000_000.0


async def check_audit_keeps_rows(open: StoreFactory) -> None:
    """Newest first, in pages, with everything that was said."""
    async with open() as pair:
        a, b = pair.first.audit, pair.second.audit
        same(list(await a.latest()), [], "an empty trail")
        for number in range(5):
            await (a, b)[number % 2].add(
                Change(
                    actor="é\U0001f600",
                    action=f"config.reload.{number}",
                    target="x" * 500,
                    details={"n": number, "list": [None, "中"]},
                    request_id="r",
                )
            )
        await a.add(Change(actor="a", action="bare", target="t"))
        rows = list(await b.latest())
        same([row["action"][-1] for row in rows], list("e43210"), "newest first")
        ids = [row["id"] for row in rows]
        same(ids, sorted(set(ids), reverse=True), "ids fall")
        same((rows[0]["details"], rows[0]["request_id"]), (None, None), "what was not said")
        row = rows[1]
        same((row["actor"], row["target"]), ("é\U0001f600", "x" * 500), "actor and target")
        same((row["details"], row["request_id"]), ({"n": 4, "list": [None, "中"]}, "r"), "details")
        page = await a.latest(limit=2, before=ids[1])
        same([one["id"] for one in page], ids[2:4], "the page before the second")
        same(await a.prune(rows[-1]["time"] - 1.0), 0, "rows older than the oldest")
        same(await b.prune(rows[0]["time"] + 1.0), 6, "rows older than tomorrow")
        same(list(await a.latest()), [], "after that")


async def check_audit_loses_nothing_when_two_race(open: StoreFactory) -> None:
    """Rows that were added at once are all there."""
    async with open() as pair:
        both = (pair.first.audit, pair.second.audit)
        await asyncio.gather(
            *(both[n % 2].add(Change(actor="a", action=f"n.{n}", target="t")) for n in range(40))
        )
        rows = await both[0].latest(limit=1000)
        same(len({row["id"] for row in rows}), 40, "ids")
        same({row["action"] for row in rows}, {f"n.{n}" for n in range(40)}, "actions")


def _worker(id: str, generation: int) -> Worker:
    return Worker(
        id=id,
        host="höst",
        pid=7,
        started_at=0.0,
        seen_at=0.0,
        generation=generation,
        directory=generation + 1,
        config="hash",
        version="1.2",
    )


async def check_roster_knows_who_lives(open: StoreFactory) -> None:
    """The last report of each worker that was seen lately and did not leave; by the store's time."""
    async with open() as pair:
        a, b = pair.first.roster, pair.second.roster
        same(list(await a.all()), [], "an empty roster")
        await a.beat(_worker("w1", 1))
        first = (await b.all())[0]
        await b.beat(_worker("w2", 1))
        await a.beat(_worker("w1", 5))
        workers = {worker.id: worker for worker in await b.all()}
        same(sorted(workers), ["w1", "w2"], "workers")
        last = workers["w1"]
        same((last.generation, last.directory, last.config), (5, 6, "hash"), "the last report")
        same((last.host, last.pid, last.version), ("höst", 7, "1.2"), "who it is")
        require(last.seen_at >= first.seen_at > 0, "`seen_at` is the store's time")
        await pair.sleep(0.4)
        await b.beat(_worker("w2", 2))
        lately = {worker.id for worker in await a.all(within_s=0.3)}
        require(lately <= {"w2"}, f"seen in the last 0.3 s: {lately}")
        await a.leave("w1")
        await a.leave("unknown")
        same([worker.id for worker in await b.all()], ["w2"], "after one left")


def _record(number: int, **fields: Any) -> JsonObject:
    return {
        "decision_id": f"d{number:03}",
        "request_id": f"r{number}",
        "time": SINCE + number,
        "key": "k1",
        "strategy": "é中\U0001f600",
        "model": "m1",
        "status": 200,
        "outcome": "success",
        "session_id": None,
        "cost_usd": 0.1,
        "candidates": [{"model": "m1", "score": 0.5}],
        **fields,
    }


async def check_decisions_are_kept_once(open: StoreFactory) -> None:
    """Whole records; a batch that comes again adds nothing; unknown ones are `None`."""
    async with open() as pair:
        a, b = pair.first.decisions, pair.second.decisions
        same(await a.get("d001"), None, "an unknown decision")
        batch = [_record(1, text="x" * 5000), _record(2)]
        await asyncio.gather(*(store.add(batch) for store in (a, b) * 3))
        await b.add([_record(2, model="changed"), _record(3)])
        await b.add([])
        for record in (*batch, _record(3)):
            _has(await a.get(record["decision_id"]), record)
        same(len(await b.search({}, limit=100)), 3, "records in all")


async def check_decisions_are_found(open: StoreFactory) -> None:
    """Newest first, by each field of a query and by several, in pages."""
    async with open() as pair:
        a, b = pair.first.decisions, pair.second.decisions
        await a.add([_record(n) for n in range(6)])
        odd = {"key": "ké", "model": "m2", "strategy": "s2", "session_id": "sess"}
        await a.add([_record(6, **odd, status=502, outcome="error")])
        every = [f"d{n:03}" for n in range(6, -1, -1)]
        searches: list[tuple[dict[str, Any], list[str]]] = [
            ({}, every),
            *(({field: value}, ["d006"]) for field, value in odd.items()),
            ({"status": 502}, ["d006"]),
            ({"outcome": "error"}, ["d006"]),
            ({"model": "m1", "outcome": "error"}, []),
            ({"since": SINCE + 4}, ["d006", "d005", "d004"]),
            ({"until": SINCE + 1.5}, ["d001", "d000"]),
            ({"since": SINCE + 1.5, "until": SINCE + 3.5}, ["d003", "d002"]),
            ({"before": "d002"}, ["d001", "d000"]),
            ({"key": "k1", "before": "d006", "since": SINCE + 5}, ["d005"]),
        ]
        for query, expected in searches:
            found = await b.search(query, limit=100)
            same([one["decision_id"] for one in found], expected, f"found by {query}")
        page = await b.search({}, limit=3)
        same([one["decision_id"] for one in page], every[:3], "a page of three")


async def check_decisions_take_feedback(open: StoreFactory) -> None:
    """One row a decision and key, the last one; nothing for a decision that nobody made."""
    async with open() as pair:
        a, b = pair.first.decisions, pair.second.decisions
        await a.add([_record(1), _record(2)])
        same(await a.feedback(_feedback("unknown", 1.0)), False, "feedback on nothing")
        same(await a.feedback(_feedback("d001", 0.2, comment="schön")), True, "feedback")
        await b.feedback(_feedback("d001", 0.9, label="good"))
        await b.feedback(_feedback("d001", 0.5, key="k2"))
        record = await a.get("d001")
        given = record["feedback"] if record else []
        scores = sorted((row["key"], row["score"]) for row in given)
        same(scores, [("k1", 0.9), ("k2", 0.5)], "feedback of two keys")
        await a.feedback(_feedback("d002", -1.0))
        rows = list(await b.feedback_since(0))
        same({(row["decision_id"], row["key"]) for row in rows}, set(_GIVEN), "all feedback")
        same(rows[-1]["decision_id"], "d002", "the last feedback")
        positions = [row["position"] for row in rows]
        require(positions == sorted(set(positions)), f"positions must grow: {positions}")
        same(len(await b.feedback_since(0, limit=1)), 1, "one row")
        same(list(await a.feedback_since(positions[-1])), [], "after the last")
        await a.feedback(_feedback("d001", 0.1))
        newer = await b.feedback_since(positions[-1])
        same([row["score"] for row in newer], [0.1], "feedback that replaced older comes again")


_GIVEN = (("d001", "k1"), ("d001", "k2"), ("d002", "k1"))


async def check_decisions_are_pruned(open: StoreFactory) -> None:
    """What is older than a time goes, with its feedback."""
    async with open() as pair:
        a, b = pair.first.decisions, pair.second.decisions
        await a.add([_record(n) for n in range(4)])
        for number in (0, 3):
            await a.feedback(_feedback(f"d{number:03}", 1.0, time=SINCE + number))
        same(await b.prune(SINCE), 0, "records older than the oldest")
        same(await b.prune(SINCE + 2), 2, "records older than the third")
        left = [one["decision_id"] for one in await a.search({}, limit=10)]
        same(left, ["d003", "d002"], "what is left")
        rows = await a.feedback_since(0)
        same([row["decision_id"] for row in rows], ["d003"], "feedback that is left")
        same(await a.get("d000"), None, "a pruned record")


def _feedback(decision_id: str, score: float, **fields: Any) -> JsonObject:
    event = {"decision_id": decision_id, "score": score, "key": "k1", "time": SINCE + 100}
    return {**event, **fields}


def _has(record: JsonObject | None, expected: JsonObject) -> None:
    got = {name: value for name, value in (record or {}).items() if name in expected}
    same(got, expected, "a record")


AUDIT: tuple[StoreCheck, ...] = (
    check_audit_keeps_rows,
    check_audit_loses_nothing_when_two_race,
)
ROSTER: tuple[StoreCheck, ...] = (check_roster_knows_who_lives,)
DECISIONS: tuple[StoreCheck, ...] = (
    check_decisions_are_kept_once,
    check_decisions_are_found,
    check_decisions_take_feedback,
    check_decisions_are_pruned,
)
