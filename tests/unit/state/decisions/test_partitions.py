from __future__ import annotations

import asyncio

import pytest

from routeiq.state.database import Session
from routeiq.state.decisions import SqlDecisions, partitions
from tests.unit.state.decisions.conftest import Opened
from tests.unit.state.decisions.records import START, ids, record

pytestmark = pytest.mark.anyio
DAY = 86_400
TODAY = START - START % DAY


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


async def names(database: Opened) -> list[str]:
    return await database.run(partitions.existing)


async def where(database: Opened) -> list[tuple[str, int]]:
    """Which partition has how many records."""

    def work(session: Session) -> list[tuple[str, int]]:
        return [
            (str(name), int(count))
            for name, count in session.rows(
                "SELECT CAST(CAST(tableoid AS regclass) AS TEXT), count(*) FROM routeiq_decisions "
                "GROUP BY 1 ORDER BY 1"
            )
        ]

    return await database.run(work)


def test_days_have_names() -> None:
    assert partitions.name_of(partitions.day_of(TODAY)) == "routeiq_decisions_p20270115"
    assert partitions.day_from("routeiq_decisions_p20270115") == TODAY // DAY
    for other in ("routeiq_decisions_default", "routeiq_decisions_p2027", "x20270115"):
        assert partitions.day_from(other) is None
    assert partitions.day_of(-1) == -1


async def test_partitions_are_made_ahead_and_once(
    decisions: SqlDecisions, database: Opened
) -> None:
    await asyncio.gather(*(decisions.prepare(START) for _ in range(4)))
    made = [f"routeiq_decisions_p202701{day}" for day in (15, 16, 17)]
    assert await names(database) == made
    await decisions.prepare(START + DAY)
    assert await names(database) == [*made, "routeiq_decisions_p20270118"]
    edges = (TODAY, TODAY + DAY - 0.001, TODAY + DAY, TODAY + 4 * DAY)
    await decisions.add([record(n, time=at) for n, at in enumerate(edges)])
    assert await where(database) == [
        ("routeiq_decisions_default", 1),
        (made[0], 2),
        (made[1], 1),
    ]


async def test_strays_move_when_their_day_is_made(
    decisions: SqlDecisions, database: Opened
) -> None:
    stray, other = record(1), record(2, time=START + 5 * DAY)
    await decisions.add([stray, other])
    assert await where(database) == [("routeiq_decisions_default", 2)]
    await decisions.prepare(START)
    assert await where(database) == [
        ("routeiq_decisions_default", 1),
        ("routeiq_decisions_p20270115", 1),
    ]
    await decisions.add([stray, other])
    assert ids(await decisions.search({}, limit=10)) == [2, 1]
    assert ids(await decisions.search({"key": "alice", "until": START + 2}, limit=10)) == [1]


async def test_a_batch_makes_the_partition_of_its_day_where_the_job_has_not(
    decisions: SqlDecisions, database: Opened
) -> None:
    now = await database.run(lambda session: session.now())
    await decisions.add([record(1, time=now), record(2)])
    today = partitions.name_of(partitions.day_of(now))
    assert await where(database) == [("routeiq_decisions_default", 1), (today, 1)]


async def test_records_do_not_wait_for_partitions_that_cannot_be_made(
    database: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(session: Session, days: object) -> None:
        raise PermissionError("permission denied for schema public")

    monkeypatch.setattr(partitions, "make", refuse)
    decisions = SqlDecisions(database)
    await decisions.add([record(1)])
    await decisions.add([record(2)])
    assert ids(await decisions.search({}, limit=10)) == [2, 1]
    assert [one.message for one in caplog.records] == ["partition not made"]


async def test_whole_days_are_dropped_and_the_default_one_is_cleaned(
    decisions: SqlDecisions, database: Opened
) -> None:
    await decisions.prepare(START)
    await decisions.prepare(START + 2 * DAY)
    times = [TODAY + n * DAY / 2 for n in range(6)]
    await decisions.add([record(n, time=at) for n, at in enumerate(times)])
    await decisions.add([record(10, time=TODAY - 0.5)])
    assert await decisions.prune(TODAY) == 1
    assert len(await names(database)) == 5
    assert await decisions.prune(TODAY + DAY - 0.001) == 0  # the day is not over
    assert await decisions.prune(TODAY + DAY) == 2
    assert ids(await decisions.search({}, limit=10)) == [5, 4, 3, 2]
    assert (await names(database))[0] == "routeiq_decisions_p20270116"
    assert await decisions.prune(TODAY + 30 * DAY) == 4
    assert await names(database) == []
    await decisions.add([record(1)])
    await decisions.prepare(START)
    assert ids(await decisions.search({}, limit=10)) == [1]


async def test_two_that_drop_at_once_count_once(decisions: SqlDecisions, database: Opened) -> None:
    await decisions.prepare(START)
    await decisions.add([record(n) for n in range(7)])
    assert sum(await asyncio.gather(*(decisions.prune(START + 9 * DAY) for _ in range(3)))) == 7


async def test_many_records_are_counted_by_the_planner(
    decisions: SqlDecisions, database: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_COUNTED", 5)
    await decisions.prepare(START)
    await decisions.add([record(n) for n in range(7)])
    await database.run(lambda s: s.count("ANALYZE routeiq_decisions"))
    await database.run(lambda s: s.count("DELETE FROM routeiq_decisions WHERE duration_ms > 1"))
    assert await decisions.prune(START + 9 * DAY) == 7
