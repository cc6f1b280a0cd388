from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.experiments.exposure import Tally, group
from routeiq.state.memory.counters import MemoryCounters
from tests.unit.experiments.helpers import FlakyCounters

pytestmark = pytest.mark.anyio


async def test_each_batch_of_an_experiment_has_the_next_number() -> None:
    counters = FlakyCounters()
    tally = Tally(counters, "w")
    for _ in range(2):
        tally.add("a", "x")
        tally.add("b", "x", 5)
        await tally.flush()
    await tally.flush()  # nothing is nothing to send
    assert counters.calls == [(group(n), "w", seq) for seq in (1, 2) for n in "ab"]
    assert await counters.read(group("b")) == {"x": 10}


async def test_a_batch_whose_fate_is_unknown_is_sent_again_as_it_was() -> None:
    counters = FlakyCounters()
    tally = Tally(counters, "w")
    tally.add("a", "x")
    counters.fails = "after"
    with pytest.raises(StoreUnavailable):
        await tally.flush()
    tally.add("a", "x", 10)  # not into the batch that may have been written
    assert tally.waiting == 1
    counters.fails = None
    await tally.flush()
    assert [seq for _, _, seq in counters.calls] == [1, 1, 2]
    assert await counters.read(group("a")) == {"x": 11}


async def test_what_is_counted_while_a_batch_is_under_way_goes_into_the_next() -> None:
    go, entered = asyncio.Event(), asyncio.Event()

    class Slow(MemoryCounters):
        async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
            entered.set()
            await go.wait()
            await super().apply(name, worker, seq, deltas)

    counters = Slow()
    tally = Tally(counters, "w")
    tally.add("a", "x")
    first = asyncio.create_task(tally.flush())
    await entered.wait()
    tally.add("a", "x")
    second = asyncio.create_task(tally.flush())
    go.set()
    await asyncio.gather(first, second)
    assert await counters.read(group("a")) == {"x": 2}


async def test_a_flush_that_is_cancelled_loses_nothing() -> None:
    class Hanging(MemoryCounters):
        hangs = True

        async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
            await super().apply(name, worker, seq, deltas)
            if self.hangs:
                await asyncio.Event().wait()

    counters = Hanging()
    tally = Tally(counters, "w")
    tally.add("a", "x")
    task = asyncio.create_task(tally.flush())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    counters.hangs = False
    assert await tally.close() == ()
    assert await counters.read(group("a")) == {"x": 1}


async def test_one_group_that_fails_does_not_mix_with_the_others() -> None:
    counters = FlakyCounters()
    tally = Tally(counters, "w")
    tally.add("a", "x")
    tally.add("b", "x")
    counters.fails = "before"
    assert list(await tally.close()) == ["a", "b"]
    counters.fails = None
    assert await tally.close() == ()
    assert [await counters.read(group(n)) for n in "ab"] == [{"x": 1}, {"x": 1}]


async def test_a_value_that_replaces_another_leaves_only_its_own_sums() -> None:
    counters = MemoryCounters()
    tally = Tally(counters, "w")
    tally.measure("a", "v", "m", 3_000_000_000)
    tally.correct("a", "v", "m", 7, 3_000_000_000)
    await tally.flush()
    found = await counters.read(group("a"))
    assert found == {"v:m_n": 1, "v:m": 7, "v:m_sq": 49, "v:m_sq_hi": 0}
