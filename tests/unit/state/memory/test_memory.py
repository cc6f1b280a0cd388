"""What the contract suite does not see of the stores in memory: they forget."""

from __future__ import annotations

import pytest

from routeiq.state.decisions.ledger import DecisionLedger, Rated
from routeiq.state.memory import (
    MemoryConversations,
    MemoryCounters,
    MemoryDecisions,
    MemoryLimits,
)
from routeiq.stores import Ask
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


async def test_buckets_that_count_no_more_are_dropped(clock: FakeClock) -> None:
    limits = MemoryLimits(clock)
    for tenant in range(50):
        asks = [
            Ask(bucket="w", kind="window", limit=9, amount=1),
            Ask(bucket="s", kind="slots", limit=9, amount=1),
        ]
        await limits.reserve(f"t{tenant}", "w", asks)
    kept = Ask(bucket="p", kind="period", limit=9, amount=1)
    await limits.reserve("t0", "w", [kept])
    clock.advance(200.0)
    await limits.reserve("other", "w", [kept])
    assert {name: set(buckets) for name, buckets in limits._tenants.items()} == {
        "t0": {"p"},
        "other": {"p"},
    }


async def test_a_wall_clock_that_jumps_back_resets_no_limit(clock: FakeClock) -> None:
    limits = MemoryLimits(clock)
    ask = Ask(bucket="w", kind="window", limit=5, amount=5)
    assert (await limits.reserve("t", "w", [ask])).refused is None
    clock.wall_offset -= 86_400.0
    assert (await limits.reserve("t", "w", [ask])).refused == 0


async def test_a_deleted_group_does_not_come_back_with_an_old_batch() -> None:
    counters = MemoryCounters()
    await counters.apply("g", "w", 1, {"x": 1})
    await counters.delete("g")
    await counters.apply("g", "w", 1, {"x": 1})
    assert await counters.read("g") == {}


async def test_expired_conversations_are_pruned(clock: FakeClock) -> None:
    conversations = MemoryConversations(clock)
    await conversations.put({"a": "d", "b": "d"}, 10.0)
    await conversations.put({"c": "d"}, 100.0)
    clock.advance(50.0)
    assert await conversations.prune() == 2
    assert await conversations.prune() == 0
    assert await conversations.get("c") == "d"


async def test_feedback_says_what_it_replaces() -> None:
    decisions: DecisionLedger = MemoryDecisions()
    await decisions.add([{"decision_id": "d", "time": 1.0}])
    given = [("k1", 0.1), ("k2", 0.2), ("k1", 0.3), ("k2", 0.4)]
    rated = [
        await decisions.rate({"decision_id": "d", "key": key, "score": score, "time": 2.0})
        for key, score in given
    ]
    assert rated == [Rated(found=True, before=before) for before in (None, 0.1, 0.2, 0.3)]
    assert await decisions.feedback_end() == 4
    unknown = {"decision_id": "x", "key": "k1", "score": 1.0, "time": 2.0}
    assert await decisions.rate(unknown) == Rated(found=False)
