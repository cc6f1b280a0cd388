"""`Limits`: admission is exact, all or nothing, and settled once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from routeiq.stores import NANO, Ask, Delta, Limits, Reservation

from .connections import Connected, StoreCheck, StoreFactory, require, same

HOUR = 3600.0
TASKS = 60
ROOM = 40


def rate(bucket: str, limit: int, amount: int = 1, *, extra: int = 0) -> Ask:
    """An ask of a window that does not end while a check runs, or whose end does not matter."""
    return Ask(bucket=bucket, kind="window", limit=limit, amount=amount, extra=extra, window_s=HOUR)


def budget(bucket: str, limit: int, amount: int = 1, *, seed: int = 0, extra: int = 0) -> Ask:
    """An ask of a period."""
    return Ask(
        bucket=bucket,
        kind="period",
        limit=limit,
        amount=amount,
        extra=extra,
        keep_s=HOUR,
        seed=seed,
    )


def slot(bucket: str, limit: int, amount: int = 1) -> Ask:
    """An ask of slots."""
    return Ask(bucket=bucket, kind="slots", limit=limit, amount=amount)


def more(bucket: str, amount: int) -> Delta:
    """A delta of a period."""
    return Delta(bucket=bucket, kind="period", amount=amount, keep_s=HOUR)


async def check_limits_grant_up_to_the_limit(open: StoreFactory) -> None:
    """Both connections count the same buckets; who asks too much is refused and takes nothing."""
    async with open() as pair:
        for ask in (rate("w", 3), budget("p", 3), slot("s", 3)):
            await _fill_up(pair, ask)


async def _fill_up(pair: Connected, ask: Ask) -> None:
    a, b, kind = pair.first.limits, pair.second.limits, ask.kind
    for used, limits in enumerate((a, b, a), start=1):
        granted = await limits.reserve("t", "w1", [ask])
        same(granted.refused, None, f"{kind}: the {used}. of 3")
        same(len(granted.grants), 1, f"{kind}: a grant for each ask")
        same((granted.grants[0].taken, granted.grants[0].used), (1, used), f"{kind}: taken, used")
        same(granted.retry_after_s, 0.0, f"{kind}: nothing to wait for")
    refused = await b.reserve("t", "w2", [ask])
    same(refused.refused, 0, f"{kind}: the 4. of 3")
    same((refused.grants[0].taken, refused.grants[0].used), (0, 3), f"{kind}: a refusal")
    require(refused.retry_after_s > 0, f"{kind}: a refusal must say when to try again")
    same(dict(await b.usage("t", {ask.bucket: kind})), {ask.bucket: 3}, f"{kind}: usage")


async def check_limits_take_all_or_nothing(open: StoreFactory) -> None:
    """One bucket that is full keeps all others as they were, whatever its place."""
    async with open() as pair:
        limits = pair.first.limits
        asks = [rate("w", 9), budget("p", 9), slot("s", 9)]
        for place in range(3):
            full = budget(f"full-{place}", 5, 6)
            mixed = [*asks[:place], full, *asks[place:]]
            answer = await limits.reserve("t", "w1", mixed)
            same(answer.refused, place, "the index of the first ask that could not be met")
            same([grant.taken for grant in answer.grants], [0] * 4, "a refusal takes nothing")
        used = await pair.second.limits.usage("t", {"w": "window", "p": "period", "s": "slots"})
        same(dict(used), {"w": 0, "p": 0, "s": 0}, "usage after refusals")
        answer = await limits.reserve("t", "w1", asks)
        same([grant.used for grant in answer.grants], [1, 1, 1], "usage after a grant")
        same((await limits.reserve("t", "w1", [])).refused, None, "nothing is always granted")


async def check_limits_are_exact_when_two_race(open: StoreFactory) -> None:
    """Sixty ask at once over two connections for what is enough for forty."""
    async with open() as pair:
        for ask in (rate("w", ROOM), budget("p", ROOM), slot("s", ROOM)):
            answers = await _storm(pair, [ask])
            used = sorted(one.grants[0].used for one in answers if one.refused is None)
            same(used, list(range(1, ROOM + 1)), f"{ask.kind}: what the granted ones saw")


async def check_limits_do_not_deadlock(open: StoreFactory) -> None:
    """Requests that name the same buckets in different orders all get an answer, and it is exact."""
    async with open() as pair:
        asks = [rate("w", ROOM), budget("p", TASKS), slot("s", TASKS)]
        answers = await _storm(pair, asks, turned=True)
        granted = sum(one.refused is None for one in answers)
        same(granted, ROOM, "granted by three buckets of which one has less room")
        used = await pair.first.limits.usage("t", {"w": "window", "p": "period", "s": "slots"})
        same(dict(used), {"w": ROOM, "p": ROOM, "s": ROOM}, "usage of all three")


async def _storm(
    pair: Connected, asks: Sequence[Ask], *, turned: bool = False
) -> list[Reservation]:
    both = (pair.first.limits, pair.second.limits)
    return await asyncio.gather(
        *(
            both[task % 2].reserve(
                "t", f"w{task % 2}", list(reversed(asks)) if turned and task % 4 > 1 else asks
            )
            for task in range(TASKS)
        )
    )


async def check_limits_give_extra_only_of_plenty(open: StoreFactory) -> None:
    """Extra is given where it is less than an eighth of what is left, and never more than that."""
    async with open() as pair:
        limits = pair.first.limits
        for bucket, limit, amount, extra, expected in (
            ("plenty", 1000, 1, 10, 11),
            ("scarce", 100, 4, 50, 4 + 12),
            ("last", 5, 5, 50, 5),
        ):
            for ask in (
                rate(bucket, limit, amount, extra=extra),
                budget(bucket + "-p", limit, amount, extra=extra),
            ):
                grant = (await limits.reserve("t", "w1", [ask])).grants[0]
                same((grant.taken, grant.used), (expected, expected), f"{bucket}: taken, used")
        answers = await _storm(pair, [rate("storm", 500, 3, extra=20)])
        taken = sum(one.grants[0].taken for one in answers)
        used = (await limits.usage("t", {"storm": "window"}))["storm"]
        require(taken == used <= 500, f"{taken} taken, {used} used of 500")


async def check_limits_seed_unknown_periods(open: StoreFactory) -> None:
    """A period starts where the ask says; once known, the seed does not matter, also in a race."""
    async with open() as pair:
        answers = await asyncio.gather(
            *(
                limits.reserve("t", "w", [budget("p", 1000, 2, seed=100)])
                for limits in (pair.first.limits, pair.second.limits) * 10
            )
        )
        used = sorted(one.grants[0].used for one in answers)
        same(used, list(range(102, 142, 2)), "twenty asks of a bucket with seed 100")
        full = await pair.first.limits.reserve("t", "w", [budget("q", 100, 1, seed=100)])
        same(full.refused, 0, "a bucket that starts full")
        same(full.grants[0].used, 100, "what is used of it")


async def check_limits_forget_periods(open: StoreFactory) -> None:
    """A period is forgotten `keep_s` after it was used last, and starts at the seed again."""
    async with open() as pair:
        limits = pair.first.limits
        short = Ask(bucket="p", kind="period", limit=10, amount=4, keep_s=0.3)
        kept = Ask(bucket="kept", kind="period", limit=10, amount=4)
        await limits.reserve("t", "w", [short, kept])
        await pair.sleep(0.45)
        used = await pair.second.limits.usage("t", {"p": "period", "kept": "period"})
        same(dict(used), {"p": 0, "kept": 4}, "usage; one without `keep_s` stays")
        again = await limits.reserve("t", "w", [short])
        same(again.grants[0].used, 4, "used of a period that was forgotten")


async def check_limits_settle_in_both_directions(open: StoreFactory) -> None:
    """Deltas are added, several for one bucket too, and nothing falls below zero."""
    async with open() as pair:
        a, b = pair.first.limits, pair.second.limits
        await a.reserve("t", "w", [budget("p", 100, 50)])
        await a.adjust("t", "w", 1, [more("p", 7), more("p", -20), more("new", 5)])
        await a.adjust("t", "w", 2, [])
        used = await b.usage("t", {"p": "period", "new": "period"})
        same(dict(used), {"p": 37, "new": 5}, "usage after settling")
        await b.adjust("t", "w", 3, [more("p", -1000), more("unknown", -5)])
        used = await a.usage("t", {"p": "period", "unknown": "period"})
        same(dict(used), {"p": 0, "unknown": 0}, "usage never falls below zero")


async def check_limits_settle_a_batch_once(open: StoreFactory) -> None:
    """A batch that comes again, at once or later, over either connection, counts once."""
    async with open() as pair:
        both = (pair.first.limits, pair.second.limits)
        for seq in (1, 2):
            await asyncio.gather(
                *(limits.adjust("t", "w", seq, [more("p", 10)]) for limits in both * 5)
            )
        await both[1].adjust("t", "w", 1, [more("p", 10)])
        used = await both[0].usage("t", {"p": "period"})
        same(dict(used), {"p": 20}, "two batches, each sent many times")
        await both[0].adjust("t", "other", 1, [more("p", 1)])
        await both[0].adjust("u", "w", 1, [more("p", 5)])
        same(dict(await both[1].usage("t", {"p": "period"})), {"p": 21}, "another worker's batch")
        same(dict(await both[1].usage("u", {"p": "period"})), {"p": 5}, "another tenant's batch")


async def check_limits_settle_exactly_when_two_race(open: StoreFactory) -> None:
    """Reservations and settlements of many at once lose nothing."""
    async with open() as pair:
        both = (pair.first.limits, pair.second.limits)

        async def work(limits: Limits, worker: str) -> None:
            for seq in range(1, 16):
                await limits.reserve("t", worker, [budget("p", 10**9, 100), slot("s", 10**9)])
                give_back = Delta(bucket="s", kind="slots", amount=-1)
                await limits.adjust("t", worker, seq, [give_back, more("p", -30)])

        await asyncio.gather(*(work(both[one % 2], f"w{one}") for one in range(4)))
        used = await both[0].usage("t", {"p": "period", "s": "slots"})
        same(dict(used), {"p": 4 * 15 * 70, "s": 0}, "usage after sixty requests")


async def check_limits_free_the_slots_of_the_dead(open: StoreFactory) -> None:
    """Slots are the worker's: nobody else gives them back, and they end with it."""
    async with open() as pair:
        a, b = pair.first.limits, pair.second.limits
        await a.reserve("t", "dies", [slot("s", 9, 3)])
        await b.reserve("t", "lives", [slot("s", 9, 2)])
        await b.adjust("t", "lives", 1, [Delta(bucket="s", kind="slots", amount=-4)])
        same(dict(await a.usage("t", {"s": "slots"})), {"s": 3}, "slots of the other worker")
        await b.adjust("t", "lives", 2, [Delta(bucket="s", kind="slots", amount=2)])
        same(dict(await a.usage("t", {"s": "slots"})), {"s": 5}, "slots reported again")
        await b.keep_slots("t", "lives", 60.0)
        await b.keep_slots("t", "unknown", 60.0)
        await a.keep_slots("t", "dies", 60.0)
        same(dict(await a.usage("t", {"s": "slots"})), {"s": 5}, "slots kept")
        await a.keep_slots("t", "dies", 0.3)
        await pair.sleep(0.5)
        same(dict(await b.usage("t", {"s": "slots"})), {"s": 2}, "slots of who lives")
        await a.keep_slots("t", "dies", 60.0)
        same(dict(await b.usage("t", {"s": "slots"})), {"s": 2}, "freed slots do not come back")
        taken = await b.reserve("t", "lives", [slot("s", 9, 7)])
        same(taken.refused, None, "freed slots can be had")


async def check_limits_reset(open: StoreFactory) -> None:
    """The named buckets of this tenant start afresh; the rest stays; unknown ones are zero."""
    async with open() as pair:
        a, b = pair.first.limits, pair.second.limits
        asks = [rate("w", 9, 2), budget("p", 9, 2), slot("s", 9, 2), budget("stays", 9, 2)]
        for tenant in ("t", "u"):
            await a.reserve(tenant, "w1", asks)
        await b.reset("t", ["w", "p", "s", "unknown"])
        await b.reset("t", [])
        same(dict(await a.usage("t", {})), {}, "usage of nothing")
        used = await a.usage("t", {"w": "window", "p": "period", "s": "slots", "stays": "period"})
        same(dict(used), {"w": 0, "p": 0, "s": 0, "stays": 2}, "usage after a reset")
        same(dict(await a.usage("u", {"p": "period"})), {"p": 2}, "usage of another tenant")
        fresh = await a.reserve("t", "w1", [budget("p", 9, 1, seed=5)])
        same(fresh.grants[0].used, 6, "a bucket that was reset starts at the seed")


async def check_limits_take_any_name_and_large_numbers(open: StoreFactory) -> None:
    """Names are text of any script and sign; money is exact to the nano-USD, up to a million USD."""
    async with open() as pair:
        a, b = pair.first.limits, pair.second.limits
        for name in ("team:é中\U0001f600", "a b{c}%s:$1'\"\\*?[x]", "n" * 200):
            much = 1_000_000 * NANO + 1
            await a.reserve(name, name, [budget(name, 10 * much, much), slot(name + "-s", 3)])
            await a.adjust(name, name, 1, [more(name, 2)])
            used = await b.usage(name, {name: "period", name + "-s": "slots"})
            same(dict(used), {name: much + 2, name + "-s": 1}, f"usage of {name!r}")


CHECKS: tuple[StoreCheck, ...] = (
    check_limits_grant_up_to_the_limit,
    check_limits_take_all_or_nothing,
    check_limits_are_exact_when_two_race,
    check_limits_do_not_deadlock,
    check_limits_give_extra_only_of_plenty,
    check_limits_seed_unknown_periods,
    check_limits_forget_periods,
    check_limits_settle_in_both_directions,
    check_limits_settle_a_batch_once,
    check_limits_settle_exactly_when_two_race,
    check_limits_free_the_slots_of_the_dead,
    check_limits_reset,
    check_limits_take_any_name_and_large_numbers,
)
