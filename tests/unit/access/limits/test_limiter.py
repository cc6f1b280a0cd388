from __future__ import annotations

import asyncio
import random

import pytest

from routeiq.access.limits import NO_LIMITS
from routeiq.access.principal import Principal
from routeiq.exceptions import BudgetExceeded, RateLimitExceeded
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=1_800_000_015.0)  # a quarter of a minute's window is over


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


async def test_without_rules_nothing_is_asked(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    free = Principal(alias="app")
    limits.check(free)
    ticket = limits.admit(free, tokens=10, cost_usd=1.0)
    assert ticket is NO_LIMITS
    assert await limits.admit_slowly(free, tokens=10, cost_usd=1.0) is NO_LIMITS
    assert limits.headers(NO_LIMITS) == []
    for _ in range(2):
        limits.settle(NO_LIMITS, tokens=1, cost_usd=1.0, answered=True)
    await limits.flush()
    assert (store.reserves, store.adjusts) == (0, 0)


async def test_a_cold_key_is_exact_and_never_leases(store: Store, clock: FakeClock) -> None:
    one, two = limiter(store, clock, "w1"), limiter(store, clock, "w2")
    key = caller(rule("requests", 5))
    for turn in range(5):
        done(one, await take((one, two)[turn % 2], key))
        clock.advance(0.5)
    assert store.reserves == 5
    assert all(ask.extra == 0 for asks in store.asked for ask in asks)
    for limits in (one, two):
        with pytest.raises(RateLimitExceeded, match=r"limit 5, used 5\. Please try again in"):
            await take(limits, key)


async def test_racing_tasks_of_many_workers_admit_exactly_the_limit(
    store: Store, clock: FakeClock
) -> None:
    """Whatever is leased: never more than the limit, and all of it once leases came back."""
    workers = [limiter(store, clock, f"w{n}") for n in range(8)]
    keys = [caller(rule("requests", 500), rule("requests", 900, scope="team:t1")) for _ in workers]
    admitted = 0

    async def client(n: int) -> None:
        nonlocal admitted
        for _ in range(10):
            try:
                ticket = await take(workers[n % 8], keys[n % 8])
            except RateLimitExceeded:
                continue
            admitted += 1
            done(workers[n % 8], ticket)

    for _ in range(12):
        await asyncio.gather(*(client(n) for n in range(64)))
        assert admitted <= 500
        clock.advance(1.01)
        await asyncio.gather(*(worker.flush() for worker in workers))
    assert admitted == 500
    assert store.taken("team:t1", "key:k1:requests") == 500
    assert store.taken("team:t1", "team:t1:requests") == 500


async def test_a_hot_key_seldom_asks(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(
        rule("requests", 10**7), rule("tokens", 10**10), rule("spend_usd", usd(10**5), "month")
    )
    awaited = 0
    for turn in range(4000):
        limits.check(key)
        ticket = limits.admit(key, tokens=100, cost_usd=0.001)
        if ticket is None:
            awaited += 1
            ticket = await limits.admit_slowly(key, tokens=100, cost_usd=0.001)
        done(limits, ticket, tokens=90, cost=0.0009)
        clock.advance(0.001)
        await limits.fetch()
        if turn % 100 == 99:
            await limits.flush()
        if turn == 999:
            asked, waited = store.reserves, awaited
    assert store.reserves < 0.05 * 4000
    assert store.reserves - asked < 0.02 * 3000
    assert awaited == waited  # leases are renewed before they run out
    await limits.close()
    assert store.taken("team:t1", "key:k1:requests") == 4000
    assert store.taken("team:t1", "key:k1:tokens") == 4000 * 90
    assert store.taken("team:t1", "key:k1:spend_usd:month:2027-01") == 4000 * usd(0.0009)


async def test_many_who_lack_the_same_lease_at_once_take_one(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("requests", 10**6))
    for _ in range(100):
        done(limits, await take(limits, key))
    clock.advance(1.0)
    await limits.flush()
    before = len(store.asked)
    await asyncio.gather(*(take(limits, key) for _ in range(20)))
    assert sum(ask.extra > 0 for asks in store.asked[before:] for ask in asks) == 1


async def test_what_is_leased_and_not_used_goes_back_within_a_second(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("requests", 1000), rule("spend_tokens", 10**6, "day"))
    for _ in range(40):
        done(limits, await take(limits, key))
    used = store.taken("team:t1", "key:k1:requests")
    assert used > 40
    await limits.flush()
    assert store.taken("team:t1", "key:k1:requests") == used
    clock.advance(1.0)
    await limits.flush()
    assert store.taken("team:t1", "key:k1:requests") == 40
    assert limits.report()["leased_buckets"] == 0


async def test_a_lease_ends_with_its_window(store: Store, clock: FakeClock) -> None:
    clock.wall_offset += 60.0 - clock.wall() % 60.0 - 0.3  # 0.3 s before a minute begins
    limits = limiter(store, clock)
    key = caller(rule("requests", 1000))
    for _ in range(40):
        done(limits, await take(limits, key))
    assert limits.admit(key, tokens=1, cost_usd=None) is not None
    clock.advance(0.31)
    assert limits.admit(key, tokens=1, cost_usd=None) is None
    await limits.flush()
    await limits.flush()
    assert store.taken("team:t1", "key:k1:requests") <= 41


async def test_all_or_nothing_over_buckets(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    busy = caller(rule("requests", 10**6))
    both = caller(rule("requests", 10**6), rule("tokens", 100))
    for _ in range(40):
        done(limits, await take(limits, busy))
    assert limits.admit(busy, tokens=1, cost_usd=None) is not None  # leased
    with pytest.raises(RateLimitExceeded, match="requested 200"):
        await take(limits, both, tokens=200)
    clock.advance(2.0)
    await limits.close()
    assert store.taken("team:t1", "key:k1:requests") == 41
    assert store.taken("team:t1", "key:k1:tokens") == 0


async def test_a_flooded_key_costs_no_round_trips(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(rule("requests", 3))
    errors: list[RateLimitExceeded] = []
    for _ in range(1000):
        try:
            await take(limits, key)
        except RateLimitExceeded as error:
            errors.append(error)
        clock.advance(0.001)
    assert len(errors) == 997
    assert all(error.retry_after_s is not None for error in errors)
    left = {dict(error.headers)[b"x-ratelimit-remaining-requests"] for error in errors}
    assert left == {b"0"}
    assert store.reserves <= 3 + 2


async def test_check_says_nothing_about_what_may_pass(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(rule("tokens", 100))
    await take(limits, key, tokens=60)
    with pytest.raises(RateLimitExceeded):
        await take(limits, key, tokens=50)
    limits.check(key)
    await take(limits, key, tokens=40)
    with pytest.raises(RateLimitExceeded):
        await take(limits, key, tokens=1)
    with pytest.raises(RateLimitExceeded):
        limits.check(key)


async def test_a_request_larger_than_the_limit_is_told_so(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    with pytest.raises(RateLimitExceeded, match="Request too large") as caught:
        await take(limits, caller(rule("tokens", 100)), tokens=101)
    assert caught.value.retry_after_s is None
    assert store.reserves == 0


async def test_a_budget_is_overshot_by_no_more_than_the_error_of_the_estimates(
    store: Store, clock: FakeClock
) -> None:
    workers = [limiter(store, clock, f"w{n}") for n in range(8)]
    keys = [caller(rule("spend_usd", usd(10.0), "day")) for _ in workers]
    rng = random.Random(7)
    spent = 0.0
    worst = 0.0

    async def client(n: int) -> None:
        nonlocal spent, worst
        for _ in range(40):
            try:
                ticket = await take(workers[n % 8], keys[n % 8], cost=0.02)
            except BudgetExceeded:
                return
            await asyncio.sleep(0)
            cost = rng.choice((0.01, 0.02, 0.025))
            spent += cost
            worst = max(worst, cost - 0.02)
            done(workers[n % 8], ticket, cost=cost)

    for _ in range(8):
        await asyncio.gather(*(client(n) for n in range(32)))
        clock.advance(1.01)
        await asyncio.gather(*(worker.flush() for worker in workers))
    assert 10.0 - 0.02 <= spent <= 10.0 + 32 * worst + 1e-9
    await asyncio.gather(*(worker.close() for worker in workers))
    day = next(iter(store._tenants["team:t1"]))
    assert store.taken("team:t1", day) == pytest.approx(usd(spent), abs=1)


async def test_a_budget_that_is_used_up_refuses_what_costs_nothing_known(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("spend_usd", usd(1.0), "month"))
    done(limits, await take(limits, key, cost=None), cost=1.5)
    await limits.flush()
    with pytest.raises(BudgetExceeded) as caught:
        await take(limits, key, cost=None)
    assert caught.value.code == "budget_exceeded"
    assert caught.value.message == (
        "The monthly budget of this key is used up: limit 1.00 USD, used 1.50 USD. "
        "It resets at 2027-02-01T00:00:00Z."
    )
    assert caught.value.retry_after_s is not None
    with pytest.raises(BudgetExceeded):
        limits.check(key)
