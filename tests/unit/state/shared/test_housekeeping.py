"""What the contract suite does not see of the SQL stores: nothing grows for ever, and clocks may jump."""

from __future__ import annotations

import pytest

from routeiq.state.shared import SqlBoard, SqlConversations, SqlCounters, SqlLeases, SqlLimits
from routeiq.state.shared import conversations as conversations_module
from routeiq.state.sqlite import SqliteDatabase
from routeiq.stores import Ask, Delta, Notice
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
WINDOW = Ask(bucket="w", kind="window", limit=9, amount=1)
SLOTS = Ask(bucket="s", kind="slots", limit=9, amount=1)
PERIOD = Ask(bucket="p", kind="period", limit=9, amount=1, keep_s=300.0)
TOTAL = Ask(bucket="total", kind="period", limit=9, amount=1)


async def count(database: SqliteDatabase, table: str) -> int:
    row = await database.run(lambda session: session.row(f"SELECT count(*) FROM {table}"))
    return int(row[0]) if row else 0


async def test_buckets_that_count_no_more_are_pruned(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    limits = SqlLimits(database)
    await limits.reserve("t", "w", [WINDOW, SLOTS, PERIOD, TOTAL])
    assert await limits.prune() == 0
    clock.advance(200.0)
    assert await limits.prune() == 2
    assert await limits.usage("t", {"p": "period", "total": "period"}) == {"p": 1, "total": 1}
    clock.advance(200.0)
    assert await limits.prune() == 1


async def test_workers_that_are_long_gone_are_forgotten(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    limits, counters = SqlLimits(database), SqlCounters(database)
    await limits.adjust("t", "w", 1, [Delta(bucket="p", kind="period", amount=1)])
    await counters.apply("g", "w", 1, {"x": 1})
    clock.advance(3600.0)
    await limits.prune()
    assert await count(database, "routeiq_batches") == 2
    clock.advance(86_400.0)
    await limits.prune()
    assert await count(database, "routeiq_batches") == 0


async def test_a_deleted_group_does_not_come_back_with_an_old_batch(
    database: SqliteDatabase,
) -> None:
    counters = SqlCounters(database)
    await counters.apply("g", "w", 1, {"x": 1})
    await counters.delete("g")
    await counters.apply("g", "w", 1, {"x": 1})
    assert await counters.read("g") == {}


async def test_a_clock_that_jumps_back_resets_no_limit(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    limits = SqlLimits(database)
    for _ in range(9):
        await limits.reserve("t", "w", [WINDOW])
    clock.wall_offset -= 86_400.0
    assert (await limits.reserve("t", "w", [WINDOW])).refused == 0


async def test_hundreds_of_buckets_in_one_call(database: SqliteDatabase) -> None:
    limits = SqlLimits(database)
    deltas = [Delta(bucket=f"p{number}", kind="period", amount=number) for number in range(350)]
    await limits.adjust("t", "w", 1, deltas)
    used = await limits.usage("t", {f"p{number}": "period" for number in range(350)})
    assert used == {f"p{number}": number for number in range(350)}
    await limits.reset("t", list(used))
    assert await count(database, "routeiq_limits") == 0


async def test_conversations_are_pruned_some_at_a_time(
    database: SqliteDatabase, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations_module, "AT_ONCE", 10)
    conversations = SqlConversations(database)
    await conversations.put({f"c{number}": "d" for number in range(25)}, 10.0)
    await conversations.put({"kept": "d"}, 100.0)
    clock.advance(50.0)
    assert await conversations.prune() == 25
    assert await conversations.get("kept") == "d"


async def test_breakers_of_deployments_that_are_gone_leave_the_board(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    board = SqlBoard(database)
    await board.open(Notice(id="gone", left_s=30.0, worker="w"))
    clock.advance(90_000.0)
    await board.open(Notice(id="new", left_s=30.0, worker="w"))
    assert [notice.id for notice in await board.all()] == ["new"]


async def test_a_breaker_that_opens_again_may_be_probed_again_after_half_its_pause(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    board = SqlBoard(database)
    await board.open(Notice(id="d", left_s=0.0, worker="w"))
    assert await board.claim_probe("d", "w", 60.0)
    await board.open(Notice(id="d", left_s=30.0, worker="w"))
    assert not await board.claim_probe("d", "v", 60.0)  # who has not heard of it yet
    clock.advance(15.1)
    assert await board.claim_probe("d", "v", 60.0)


async def test_a_lease_that_lapsed_has_a_new_token_for_the_same_holder(
    database: SqliteDatabase, clock: FakeClock
) -> None:
    leases = SqlLeases(database)
    tokens = []
    for _ in range(3):
        lease = await leases.acquire("job", "h", 10.0)
        tokens.append(lease.token if lease else 0)
        clock.advance(20.0)
    assert tokens == [1, 2, 3]
