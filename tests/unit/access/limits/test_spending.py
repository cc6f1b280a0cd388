from __future__ import annotations

import pytest

from routeiq.access.limits import Limiter
from routeiq.exceptions import BudgetExceeded, StateUnavailable
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Counts, Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio
DAY = "key:k1:spend_usd:day:2027-01-15"
GROUP = "spend:team:t1:day:2027-01-15"


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


async def write(limits: Limiter) -> None:
    spending = limits._spending
    assert spending is not None
    await limits._quietly(spending.flush)


async def test_what_was_spent_survives_the_loss_of_the_store(
    store: Store, clock: FakeClock
) -> None:
    spending = Counts()
    one = limiter(store, clock, "w1", spending=spending)
    key = caller(rule("spend_usd", usd(1.0), "day"), rule("spend_tokens", 1000, "total"))
    done(one, await take(one, key, cost=0.1), cost=0.7, tokens=300)
    await one.flush()
    await write(one)
    store.lose()
    two = limiter(store, clock, "w2", spending=spending)
    with pytest.raises(BudgetExceeded, match=r"used 0\.70 USD"):
        await take(two, key, cost=0.31)
    done(two, await take(two, key, cost=0.3), cost=0.3)
    await two.flush()
    assert store.taken("team:t1", DAY) == usd(1.0)
    assert store.taken("team:t1", "key:k1:spend_tokens:total") == 310


async def test_a_worker_that_was_there_finds_out_too(store: Store, clock: FakeClock) -> None:
    spending = Counts()
    workers = [limiter(store, clock, f"w{n}", spending=spending) for n in range(3)]
    key = caller(rule("spend_usd", usd(10.0), "day"))
    for limits in workers:
        done(limits, await take(limits, key), cost=1.0)
        await limits.flush()
        await write(limits)
        clock.advance(0.5)
    store.lose()
    for limits in workers:
        limits.store_is_back()
    for limits in workers:
        done(limits, await take(limits, key), cost=2.0)
        await limits.flush()
    assert store.taken("team:t1", DAY) == usd(9.0)


async def test_a_store_that_loses_its_data_without_failing_is_noticed(
    store: Store, clock: FakeClock
) -> None:
    spending = Counts()
    workers = [limiter(store, clock, f"w{n}", spending=spending) for n in range(2)]
    key = caller(rule("spend_usd", usd(10.0), "day"))
    for limits in workers:
        await limits.look()
        done(limits, await take(limits, key), cost=1.0)
        await limits.flush()
        await write(limits)
    clock.advance(0.5)
    store.lose()
    late = await take(workers[1], key, cost=0.5)  # before anybody looked
    for limits in workers:
        await limits.look()
    done(workers[1], late, cost=0.25)
    await write(workers[1])
    done(workers[0], await take(workers[0], key), cost=2.0)
    for limits in workers:
        await limits.flush()
        await limits.look()
    done(workers[1], await take(workers[1], key), cost=1.0)
    await workers[1].flush()
    (found,) = await workers[0].usage(key)
    assert found.used == usd(5.25)


async def test_estimates_are_not_written_and_batches_count_once(
    store: Store, clock: FakeClock
) -> None:
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(10.0), "day"))
    ticket = await take(limits, key, cost=5.0)
    await write(limits)
    assert dict(await spending.read(GROUP)) == {}
    done(limits, ticket, cost=1.0)
    spending.mute = True
    await write(limits)
    done(limits, await take(limits, key), cost=0.5)
    await write(limits)
    spending.mute = False
    await write(limits)
    spending.down = True
    for _ in range(2):
        done(limits, await take(limits, key), cost=0.25)
        await write(limits)
    spending.down = False
    await write(limits)
    await write(limits)
    assert dict(await spending.read(GROUP)) == {"key:k1:spend_usd": usd(2.0)}


async def test_the_durable_value_is_read_once(store: Store, clock: FakeClock) -> None:
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(10.0), "day"), rule("spend_usd", usd(90.0), "total"))
    for _ in range(10):
        done(limits, await take(limits, key))
        clock.advance(5.0)
        await limits.flush()
    assert spending.reads == 2  # one for each period


@pytest.mark.parametrize("fail", ["open", "closed"])
async def test_where_the_durable_value_cannot_be_read(
    store: Store, clock: FakeClock, fail: str
) -> None:
    spending = Counts()
    spending.down = True
    limits = limiter(store, clock, spending=spending)
    closed = fail == "closed"
    key = caller(rule("spend_usd", usd(10.0), "day", fail="closed" if closed else "open"))
    if closed:
        with pytest.raises(StateUnavailable, match="budget of this key"):
            await take(limits, key)
    else:
        done(limits, await take(limits, key), cost=1.0)
    spending.down = False
    done(limits, await take(limits, key), cost=2.0)
    await limits.flush()
    await write(limits)
    total = usd(2.0 if closed else 3.0)
    assert store.taken("team:t1", DAY) == total
    assert dict(await spending.read(GROUP)) == {"key:k1:spend_usd": total}


async def test_old_periods_are_deleted(store: Store, clock: FakeClock) -> None:
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(10.0), "day"))
    for _ in range(5):
        done(limits, await take(limits, key), cost=1.0)
        await limits.flush()
        await write(limits)
        clock.advance(86_400.0)
    assert sorted(name for name, group in spending._groups.items() if group) == [
        "spend:team:t1:day:2027-01-18",
        "spend:team:t1:day:2027-01-19",
    ]
    assert len(limits._plans.tenants["team:t1"].buckets) <= 2
