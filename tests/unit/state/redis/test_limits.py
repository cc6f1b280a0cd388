"""Limits on Redis decide as memory does: the same operations at the same times give the same answers."""

from __future__ import annotations

import asyncio
import random

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.memory.limits import MemoryLimits
from routeiq.state.redis import connect, keys
from routeiq.state.redis.connection import RedisConnection, Script, script
from routeiq.state.redis.limits import RedisLimits
from routeiq.stores import Ask, BucketKind, Delta, Grant, Reservation
from tests.support.clock import FakeClock
from tests.support.redis import RedisServer

KINDS: dict[str, BucketKind] = {"w": "window", "v": "window", "p": "period", "s": "slots"}
FIRST = Ask(bucket="p", kind="period", limit=9, amount=0, keep_s=86_400.0, seed=5)
SCRIPTS = ("reserve", "adjust", "keep", "usage")


def at(limits: RedisLimits, milliseconds: int) -> RedisLimits:
    """The same limits on a server whose clock stands still."""
    seconds, rest = divmod(milliseconds, 1000)
    for name in SCRIPTS:
        source = script(f"limits_{name}").source
        fixed = source.replace("redis.call('TIME')", f"{{'{seconds}', '{rest * 1000}'}}")
        assert fixed != source
        setattr(limits, f"_{name}", Script(fixed))
    return limits


def ask(rng: random.Random, name: str) -> Ask:
    kind = KINDS[name]
    return Ask(
        bucket=name,
        kind=kind,
        limit=rng.choice([0, 3, 40, 1000]),
        amount=rng.choice([1, 1, 2, 7, 30]),
        extra=rng.choice([0, 0, 1, 16, 500]) if kind != "slots" else 0,
        window_s=60.0 if name == "w" else 1.5,
        keep_s=86_400.0,
        seed=5,
    )


def delta(rng: random.Random, name: str, window: int) -> Delta:
    return Delta(
        bucket=name,
        kind=KINDS[name],
        amount=rng.randint(-20, 20),
        window=window - rng.choice([0, 0, 1, 2]),
        window_s=60.0 if name == "w" else 1.5,
        keep_s=86_400.0,
    )


def comparable(reservation: Reservation) -> tuple[object, ...]:
    """Without a period's `reset_s`, which is by the real clock there."""
    grants = tuple(
        (grant.taken, grant.used, grant.window, grant.reset_s if grant.window else 0)
        for grant in reservation.grants
    )
    return grants, reservation.refused


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(8))
async def test_decides_as_memory_does(connection: RedisConnection, seed: int) -> None:
    rng = random.Random(seed)
    now = 1_800_000_000_000 + 125 * rng.randrange(480)  # eighths of a second are exact floats
    clock = FakeClock()
    ours, theirs = RedisLimits(connection), MemoryLimits(clock)
    clock.wall_offset = now / 1000 - clock.now
    for limits in (
        at(ours, now),
        theirs,
    ):  # memory gives no seed to a bucket that was settled first
        await limits.reserve("t", "a", [FIRST])
    # A clock that jumps back frees nothing; only slots that were dropped already stay dropped here.
    steps, names = ([0, 1, 3, 12, 56, 320], "wvps") if seed % 2 else ([0, 3, 56, -500], "wvp")
    refused = 0
    for step in range(1, 120):
        now += 125 * rng.choice(steps)
        clock.wall_offset = now / 1000 - clock.now
        at(ours, now)
        worker = rng.choice(["a", "b"])
        if rng.random() < 0.7:
            asks = [ask(rng, name) for name in rng.sample(names, rng.randint(1, 3))]
            mine = await ours.reserve("t", worker, asks)
            other = await theirs.reserve("t", worker, asks)
            assert comparable(mine) == comparable(other), (step, asks, mine, other)
            refused += mine.refused is not None
            if mine.refused is not None and asks[mine.refused].kind != "period":
                assert mine.retry_after_s == pytest.approx(other.retry_after_s, abs=0.002)
        elif rng.random() < 0.8:
            deltas = [
                delta(rng, name, now // (60_000 if name == "w" else 1500))
                for name in rng.sample(names, 2)
            ]
            for limits in (ours, theirs):
                await limits.adjust("t", worker, step, deltas)
        else:
            for limits in (ours, theirs):
                await limits.keep_slots("t", worker)
        assert await ours.usage("t", KINDS) == await theirs.usage("t", KINDS), step
    assert refused


@pytest.mark.anyio
async def test_two_connections_that_race_take_no_more_than_the_limit(
    connection: RedisConnection, server: RedisServer
) -> None:
    second = connect(server.url, link=Link("redis", SystemClock()), timeout_s=5.0)
    both = [RedisLimits(connection), RedisLimits(second)]
    asks = [
        Ask(bucket="r", kind="window", limit=100, amount=1, window_s=3600.0),
        Ask(bucket="s", kind="slots", limit=60, amount=1),
    ]
    answers = await asyncio.gather(
        *(both[number % 2].reserve("t", f"w{number % 2}", asks) for number in range(200))
    )
    assert sum(answer.refused is None for answer in answers) == 60
    assert await both[0].usage("t", {"r": "window", "s": "slots"}) == {"r": 60, "s": 60}
    await second.close()


@pytest.mark.anyio
async def test_integers_are_exact_up_to_2_to_the_53(connection: RedisConnection) -> None:
    limits = RedisLimits(connection)
    big = 2**53 - 1
    asked = Ask(bucket="b", kind="period", limit=big, amount=1, keep_s=60.0, seed=big - 2)
    assert (await limits.reserve("t", "w", [asked])).grants[0].used == big - 1
    assert (await limits.reserve("t", "w", [asked])).grants[0].used == big
    assert (await limits.reserve("t", "w", [asked])).refused == 0
    assert await limits.usage("t", {"b": "period"}) == {"b": big}


@pytest.mark.anyio
async def test_settling_a_lost_period_does_not_lose_its_seed(connection: RedisConnection) -> None:
    limits = RedisLimits(connection)
    settled = Delta(bucket="b", kind="period", amount=7, keep_s=60.0)
    await limits.adjust("t", "w", 1, [settled])
    assert await limits.usage("t", {"b": "period"}) == {"b": 7}
    asked = Ask(bucket="b", kind="period", limit=1000, amount=1, keep_s=60.0, seed=500)
    assert (await limits.reserve("t", "w", [asked])).grants[0].used == 508
    assert (await limits.reserve("t", "w", [asked])).grants[0].used == 509


@pytest.mark.anyio
async def test_a_batch_that_came_twice_counts_once(connection: RedisConnection) -> None:
    limits = RedisLimits(connection)
    settled = Delta(bucket="b", kind="period", amount=7, keep_s=60.0)
    for seq in (1, 1, 2, 1, 2):
        await limits.adjust("t", "w", seq, [settled])
    await limits.adjust("t", "other", 1, [settled])
    assert await limits.usage("t", {"b": "period"}) == {"b": 21}


@pytest.mark.anyio
async def test_every_key_expires_and_has_the_tenants_slot(
    connection: RedisConnection, server: RedisServer
) -> None:
    limits = RedisLimits(connection)
    asks = [
        Ask(bucket="w", kind="window", limit=9, amount=1),
        Ask(bucket="p", kind="period", limit=9, amount=1),
        Ask(bucket="s", kind="slots", limit=9, amount=1),
    ]
    await limits.reserve("t", "w1", asks)
    await limits.adjust("t", "w1", 1, [Delta(bucket="s", kind="slots", amount=1)])
    found = sorted(str(key, "utf-8") for key in server.command("KEYS", "*"))
    assert found == [
        "routeiq:limit:{t}:held:w1",
        "routeiq:limit:{t}:p:p",
        "routeiq:limit:{t}:s:s",
        "routeiq:limit:{t}:seq:w1",
        "routeiq:limit:{t}:w:w",
    ]
    for key in found:
        assert 0 < server.client.ttl(key) <= keys.PERIOD_S, key
    await limits.reset("t", ["w", "p", "s"])
    assert await limits.usage("t", {"w": "window", "p": "period", "s": "slots"}) == {
        "w": 0,
        "p": 0,
        "s": 0,
    }


@pytest.mark.anyio
async def test_slots_of_a_dead_worker_are_freed_and_kept_ones_are_not(
    connection: RedisConnection,
) -> None:
    limits = RedisLimits(connection)
    now = 1_800_000_000_000
    asked = Ask(bucket="s", kind="slots", limit=2, amount=1)
    for worker in ("dead", "alive"):
        await at(limits, now).reserve("t", worker, [asked])
    assert (await limits.reserve("t", "alive", [asked])).refused == 0
    await at(limits, now + 20_000).keep_slots("t", "alive", 30.0)
    answer = await at(limits, now + 31_000).reserve("t", "alive", [asked])
    assert answer.grants == (Grant(taken=1, used=2),)


@pytest.mark.anyio
async def test_nothing_to_ask_needs_no_server() -> None:
    connection = connect("redis://127.0.0.1:1", link=Link("redis", SystemClock()))
    limits = RedisLimits(connection)
    assert await limits.reserve("t", "w", []) == Reservation(grants=())
    assert await limits.usage("t", {}) == {}
    with pytest.raises(StoreUnavailable):
        await limits.usage("t", {"b": "period"})
    await connection.close()
