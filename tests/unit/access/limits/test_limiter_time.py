from __future__ import annotations

import asyncio

import pytest

from routeiq.access.limits import Limiter
from routeiq.exceptions import BudgetExceeded, RateLimitExceeded
from routeiq.ports import SystemClock
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=1_800_000_015.0)  # a quarter of a minute's window is over


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


async def test_a_new_month_is_a_new_budget(store: Store, clock: FakeClock) -> None:
    clock.wall_offset = 1_801_439_990.0 - clock.now  # ten seconds before February 2027
    limits = limiter(store, clock)
    key = caller(rule("spend_usd", usd(1.0), "month"))
    old = await take(limits, key, cost=0.9)
    with pytest.raises(BudgetExceeded, match="2027-02-01") as caught:
        await take(limits, key, cost=0.9)
    assert caught.value.retry_after_s == pytest.approx(10.0)
    clock.advance(10.0)
    new = await take(limits, key, cost=0.9)
    done(limits, old, cost=0.5)  # it was reserved in January
    done(limits, new, cost=0.6)
    await limits.flush()
    assert store.taken("team:t1", "key:k1:spend_usd:month:2027-01") == usd(0.5)
    assert store.taken("team:t1", "key:k1:spend_usd:month:2027-02") == usd(0.6)
    clock.wall_offset -= 3600.0  # the wall clock jumps back into January
    done(limits, await take(limits, key, cost=0.3), cost=0.3)
    await limits.flush()
    assert store.taken("team:t1", "key:k1:spend_usd:month:2027-01") == usd(0.8)


async def test_slots_are_given_back_and_used_again(store: Store, clock: FakeClock) -> None:
    one, two = limiter(store, clock, "w1"), limiter(store, clock, "w2")
    key = caller(rule("concurrent", 2))
    first, second = await take(one, key), await take(two, key)
    with pytest.raises(RateLimitExceeded, match="concurrent requests of this key: limit 2"):
        await take(one, key)
    asked = store.reserves
    done(one, first)
    done(one, first)
    clock.advance(0.1)
    again = one.admit(key, tokens=1, cost_usd=None)  # not given back yet: used again at once
    assert again is not None
    assert store.reserves == asked
    done(one, again)
    await one.flush()
    done(two, second)
    await two.flush()
    assert store.taken("team:t1", "key:k1:concurrent") == 0
    tickets = [await take(two, key) for _ in range(2)]
    asked = store.reserves
    with pytest.raises(RateLimitExceeded):
        two.check(key)  # this worker has them all: no need to ask
    assert store.reserves == asked
    for ticket in tickets:
        done(two, ticket)


async def test_slots_of_a_living_worker_stay_taken(store: Store, clock: FakeClock) -> None:
    limits, other = limiter(store, clock, "w1"), limiter(store, clock, "w2")
    key = caller(rule("concurrent", 1))
    ticket = await take(limits, key)
    for _ in range(6):
        clock.advance(10.0)
        await limits._settlement.keep_slots()
    with pytest.raises(RateLimitExceeded):
        await take(other, key)
    done(limits, ticket)
    await limits.flush()
    kept = len(store.kept)
    await limits._settlement.keep_slots()
    assert len(store.kept) == kept  # nothing is held any more
    clock.advance(0.05)
    await take(other, key)


async def test_who_leaves_while_waiting_leaves_nothing_behind(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("concurrent", 1), rule("tokens", 100), rule("spend_usd", usd(1), "total"))
    store.gate = asyncio.Event()
    waiting = asyncio.create_task(take(limits, key, tokens=80, cost=0.8))
    while not store.reserves:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    await limits.flush()
    for bucket in ("concurrent", "tokens", "spend_usd:total"):
        assert store.taken("team:t1", f"key:k1:{bucket}") == 0
    await take(limits, key, tokens=80, cost=0.8)


async def test_what_was_settled_counts_at_once_when_a_limit_refuses(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("tokens", 1000))
    done(limits, await take(limits, key, tokens=900), tokens=100)
    await take(limits, key, tokens=850)  # without waiting for the next flush
    assert store.adjusts == 1


async def test_a_changed_limit_holds_for_the_new_principal(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    await take(limits, caller(rule("requests", 1)))
    with pytest.raises(RateLimitExceeded):
        await take(limits, caller(rule("requests", 1)))
    await take(limits, caller(rule("requests", 2)))
    with pytest.raises(RateLimitExceeded, match="limit 2, used 2"):
        await take(limits, caller(rule("requests", 2)))


async def test_what_nobody_uses_is_forgotten_and_its_batches_go_on(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("spend_tokens", 10**6, "total"))
    held = await take(limits, key)
    for turn in range(3):
        done(limits, await take(limits, key, tokens=10), tokens=20)
        await limits.flush()
        clock.advance(121.0)
        await limits.flush()
        assert limits.report()["tenants"] == 1  # a request is still under way
        if turn == 1:
            done(limits, held, tokens=5)
            await limits.flush()
            clock.advance(121.0)
            await limits.flush()
            assert limits.report()["tenants"] == 0
            held = await take(limits, key)
    assert store.taken("team:t1", "key:k1:spend_tokens:total") == 3 * 20 + 5 + 10


async def test_headers_say_what_is_left_at_the_tightest_level(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(
        rule("requests", 60),
        rule("requests", 50, scope="team:t1"),
        rule("tokens", 1000),
        rule("concurrent", 5),
    )
    assert limits.headers(await take(limits, key, tokens=100)) == [
        (b"x-ratelimit-limit-requests", b"50"),
        (b"x-ratelimit-remaining-requests", b"49"),
        (b"x-ratelimit-reset-requests", b"1m45s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"900"),
        (b"x-ratelimit-reset-tokens", b"1m45s"),
    ]
    for left in range(48, 8, -1):
        ticket = await take(limits, key, tokens=1)
        done(limits, ticket, tokens=1)
        assert (b"x-ratelimit-remaining-requests", b"%d" % left) in limits.headers(ticket)
    money = caller(rule("spend_usd", usd(1), "day"))
    assert limits.headers(await take(limits, money)) == []


async def test_it_runs_by_itself() -> None:
    clock = SystemClock()
    real = Store(clock)
    limits = Limiter(limits=real, spending=None, clock=clock, worker="w", flush_s=0.005)
    key = caller(rule("tokens", 10**6), rule("concurrent", 10))
    running = asyncio.create_task(limits.run())
    done(limits, await take(limits, key, tokens=100), tokens=30)
    async with asyncio.timeout(5):
        while limits.report()["unsent_tenants"]:
            await asyncio.sleep(0.002)
    assert real.taken("team:t1", "key:k1:tokens") == 30
    assert real.taken("team:t1", "key:k1:concurrent") == 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await limits.close()
