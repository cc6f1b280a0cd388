"""`Counters`: no batch is lost, none counts twice."""

from __future__ import annotations

import asyncio

from routeiq.stores import Counters

from .connections import StoreCheck, StoreFactory, same


async def check_counters_add_up(open: StoreFactory) -> None:
    """What one connection adds, the other reads; groups are apart; an unknown one is empty."""
    async with open() as pair:
        a, b = pair.first.counters, pair.second.counters
        same(dict(await b.read("g")), {}, "a group that nobody wrote")
        await a.apply("g", "w1", 1, {"x": 2, "y": -1, "größe\U0001f600 {a}:b": 10**15 + 1})
        await b.apply("g", "w2", 1, {"x": 3, "zero": 0})
        await b.apply("h", "w2", 1, {"x": 100})
        await a.apply("g", "w1", 2, {})
        read = {field: count for field, count in (await a.read("g")).items() if count}
        same(read, {"x": 5, "y": -1, "größe\U0001f600 {a}:b": 10**15 + 1}, "the group")
        await b.delete("g")
        await b.delete("unknown")
        same(dict(await a.read("g")), {}, "a group that was deleted")
        same(dict(await a.read("h")), {"x": 100}, "another group")


async def check_counters_apply_a_batch_once(open: StoreFactory) -> None:
    """A batch that comes again, at once or later, over either connection, counts once."""
    async with open() as pair:
        both = (pair.first.counters, pair.second.counters)
        for seq in (1, 2, 3):
            await asyncio.gather(*(one.apply("g", "w", seq, {"x": 1, "y": 2}) for one in both * 5))
        for seq in (1, 3):
            await both[1].apply("g", "w", seq, {"x": 1, "new": 1})
        await both[1].apply("g", "other", 1, {"x": 10})
        await both[1].apply("h", "w", 1, {"x": 1})
        same(dict(await both[0].read("g")), {"x": 13, "y": 6}, "three batches, and another's")
        same(dict(await both[0].read("h")), {"x": 1}, "another group's first batch")


async def check_counters_are_exact_when_two_race(open: StoreFactory) -> None:
    """Many workers on two connections, with the same fields in different orders."""
    fields = [f"f{number}" for number in range(12)]

    async def work(counters: Counters, worker: int) -> None:
        ordered = fields if worker % 2 else fields[::-1]
        for seq in range(1, 11):
            await counters.apply("g", f"w{worker}", seq, dict.fromkeys(ordered, worker + 1))

    async with open() as pair:
        both = (pair.first.counters, pair.second.counters)
        await asyncio.gather(*(work(both[worker % 2], worker) for worker in range(8)))
        same(dict(await both[0].read("g")), dict.fromkeys(fields, 10 * 36), "eighty batches")


CHECKS: tuple[StoreCheck, ...] = (
    check_counters_add_up,
    check_counters_apply_a_batch_once,
    check_counters_are_exact_when_two_race,
)
