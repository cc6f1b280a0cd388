from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routeiq.state.decisions import SqlDecisions
from routeiq.state.decisions import store as module
from tests.unit.state.decisions.conftest import Opened
from tests.unit.state.decisions.records import START, event, ids, record

pytestmark = pytest.mark.anyio


async def test_a_record_comes_back_whole(decisions: SqlDecisions) -> None:
    await decisions.add([record(1, tags=["a"], odd={"deep": [1, None, "é\0\ud7ff"]})])
    found = await decisions.get(f"{1:024x}")
    assert found == {
        **record(1, tags=["a"], odd={"deep": [1, None, "é\0\ud7ff"]}),
        "feedback": [],
    }
    assert await decisions.get(f"{2:024x}") is None
    assert await decisions.get("\0'; DROP TABLE routeiq_decisions") is None


async def test_a_batch_that_comes_twice_is_stored_once(
    decisions: SqlDecisions, database: Opened
) -> None:
    await decisions.add([record(1), record(2)])
    await decisions.add([record(2, model="other"), record(3), record(1)])
    await decisions.add([])
    rows = await database.run(
        lambda s: s.rows("SELECT decision_id, model FROM routeiq_decisions ORDER BY time")
    )
    assert rows == [(f"{n:024x}", "cheap") for n in (1, 2, 3)]


async def test_what_is_searched_for_has_columns(decisions: SqlDecisions, database: Opened) -> None:
    strange = record(
        2,
        key="a\0b",
        status=2**40,
        cost_usd=float("nan"),
        input_tokens=2**64 - 1,
        output_tokens=2.0,
        duration_ms="slow",
        requested=None,
        session_id=7,
    )
    del strange["model"]
    await decisions.add([record(1, experiment="ab", variant="b", team="red"), strange])
    rows = await database.run(
        lambda s: s.rows(
            "SELECT time, key, team, model, requested, status, session_id, experiment, variant, "
            "cost_nano, input_tokens, output_tokens, duration_ms FROM routeiq_decisions ORDER BY time"
        )
    )
    assert rows == [
        (START + 1, "alice", "red", "cheap", "auto", 200, None, "ab", "b", 123_000, 10, 20, 12.5),
        (START + 2, "a\ufffdb", None, None, None, None, "7", None, None, None, None, 2, None),
    ]


async def test_a_batch_with_a_record_that_cannot_be_encoded_is_not_stored_at_all(
    decisions: SqlDecisions,
) -> None:
    for bad in (record(2, odd=object()), record(2, time="soon"), record(2, key="\ud800")):
        with pytest.raises((TypeError, ValueError)):
            await decisions.add([record(1), bad])
    assert await decisions.search({}, limit=10) == []


SEARCHES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [6, 5, 4, 3, 2, 1]),
    ({"key": "alice"}, [6, 5, 4, 2, 1]),
    ({"key": "bob"}, [3]),
    ({"key": "bob\0"}, []),
    ({"team": "red"}, [4]),
    ({"model": "strong"}, [5, 2]),
    ({"model": None}, [6, 5, 4, 3, 2, 1]),
    ({"requested": "gpt"}, [1]),
    ({"strategy": "knn"}, [6]),
    ({"status": 502}, [5]),
    ({"outcome": "error"}, [5]),
    ({"outcome": "success"}, [6, 4, 3, 2, 1]),
    ({"session_id": "s"}, [6, 4]),
    ({"experiment": "ab"}, [4, 3]),
    ({"experiment": "ab", "variant": "b"}, [4]),
    ({"since": START + 3, "until": START + 5}, [4, 3]),
    ({"until": START + 2, "model": "strong"}, []),
    ({"before": f"{3:024x}"}, [2, 1]),
    ({"before": f"{99:024x}"}, []),
    ({"before": f"{99:024x}", "before_time": START + 3}, [3, 2, 1]),
    ({"before": f"{5:024x}", "model": "strong"}, [2]),
]


@pytest.mark.parametrize("slice", [2, 1000])
async def test_search_filters_and_sorts(
    decisions: SqlDecisions, slice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE", slice)
    await decisions.add(
        [
            record(6, strategy="knn", session_id="s"),
            record(1, requested="gpt"),
            record(2, model="strong"),
            record(3, key="bob", experiment="ab", variant="a"),
            record(4, team="red", session_id="s", experiment="ab", variant="b"),
            record(5, model="strong", status=502, outcome="error"),
        ]
    )
    for query, found in SEARCHES:
        assert (query, ids(await decisions.search(query, limit=10))) == (query, found)
        assert (query, ids(await decisions.search(query, limit=1))) == (query, found[:1])


async def test_an_unknown_field_is_a_defect_of_the_caller(decisions: SqlDecisions) -> None:
    with pytest.raises(ValueError, match="colour"):
        await decisions.search({"colour": "red"}, limit=1)


async def test_pages_go_on_by_time_and_id_where_times_are_equal(decisions: SqlDecisions) -> None:
    await decisions.add([record(n, time=START + n // 4) for n in range(10)])
    seen: list[int] = []
    query: dict[str, Any] = {}
    while page := await decisions.search(query, limit=3):
        seen += ids(page)
        query = {"before": page[-1]["decision_id"], "before_time": page[-1]["time"]}
    assert seen == list(reversed(range(10)))


async def test_feedback_is_one_row_per_decision_and_key_and_the_last_counts(
    decisions: SqlDecisions,
) -> None:
    await decisions.add([record(1), record(2)])
    replaced = [
        await decisions.rate(event(1, 0.2, label="bad", comment="no\0!")),
        await decisions.rate(event(1, 0.9, time=START + 2000)),
        await decisions.rate(event(1, 0.4, key="root", admin=True)),
        await decisions.rate(event(3)),
    ]
    assert [one.found for one in replaced] == [True, True, True, False]
    assert [one.before for one in replaced] == [None, 0.2, 0.9, None]
    assert await decisions.feedback(event(2, 1, label="good", comment="c"))
    assert not await decisions.feedback(event(3))
    first = await decisions.get(f"{1:024x}")
    assert first is not None
    assert [(f["key"], f["score"], f["admin"], f["position"]) for f in first["feedback"]] == [
        ("alice", 0.9, False, 2),
        ("root", 0.4, True, 3),
    ]
    assert "label" not in first["feedback"][0]
    second, again = await decisions.search({}, limit=10)
    assert second["feedback"] == [{**event(2, 1.0), "label": "good", "comment": "c", "position": 4}]
    assert again == first


async def test_feedback_is_read_from_a_position_on(decisions: SqlDecisions) -> None:
    await decisions.add([record(n) for n in range(5)])
    assert await decisions.feedback_end() == 0
    for n in range(4):
        await decisions.feedback(event(n))
    end = await decisions.feedback_end()
    assert end == 4
    assert await decisions.feedback_since(end) == []
    await decisions.feedback(event(1, 1.0))
    (new,) = await decisions.feedback_since(end)
    assert (ids([new]), new["position"], new["score"]) == ([1], 5, 1.0)
    assert ids(await decisions.feedback_since(0, limit=2)) == [0, 2]


async def test_of_many_at_once_exactly_one_is_first(decisions: SqlDecisions) -> None:
    await decisions.add([record(1)])
    said = await asyncio.gather(*(decisions.rate(event(1, key=f"k{n}")) for n in range(12)))
    assert [one.before for one in said].count(None) == 1
    positions = [one["position"] for one in await decisions.feedback_since(0)]
    assert positions == list(range(1, 13))


async def test_what_is_older_is_deleted_in_chunks(
    decisions: SqlDecisions, database: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    await decisions.add([record(n) for n in range(10)])
    await decisions.feedback(event(0, time=START + 7.9))
    await decisions.feedback(event(9, time=START + 8))
    assert await decisions.prune(START + 8) == 8
    assert ids(await decisions.search({}, limit=10)) == [9, 8]
    assert ids(await decisions.feedback_since(0)) == [9]
    assert await decisions.prune(START + 8) == 0
    assert await decisions.prune(START + 10) == 2
    counted = await database.run(lambda s: s.row("SELECT count(*) FROM routeiq_decisions"))
    assert counted == (0,)
