from __future__ import annotations

from collections.abc import Callable

import pytest

from routeiq.access.limits import Limiter
from routeiq.access.principal import Principal
from routeiq.exceptions import BudgetExceeded, RateLimitExceeded, StateUnavailable
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Counts, Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio
DAY = "key:k1:spend_usd:day:2027-01-15"


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


@pytest.mark.parametrize("kind", ["requests", "tokens", "concurrent", "spend_usd"])
async def test_closed_refuses_while_nobody_knows(store: Store, clock: FakeClock, kind: str) -> None:
    rules = {
        "requests": rule("requests", 10, fail="closed"),
        "tokens": rule("tokens", 1000, fail="closed"),
        "concurrent": rule("concurrent", 10, fail="closed"),
        "spend_usd": rule("spend_usd", usd(1), "day", fail="closed"),
    }
    limits = limiter(store, clock)
    key = caller(rule("requests", 10, scope="team:t1"), rules[kind])
    store.down = True
    for _ in range(3):
        with pytest.raises(StateUnavailable) as caught:
            await take(limits, key)
        assert caught.value.status == 503
        assert caught.value.retry_after_s == 1.0
    store.down = False
    done(limits, await take(limits, key))


async def admitted(limits: Limiter, key: Principal, tries: int, *, settle: bool = True) -> int:
    count = 0
    for _ in range(tries):
        try:
            ticket = await take(limits, key)
        except RateLimitExceeded:
            continue
        count += 1
        if settle:
            done(limits, ticket)
    return count


async def test_open_admits_what_one_worker_alone_may(store: Store, clock: FakeClock) -> None:
    workers = [limiter(store, clock, f"w{n}", workers=4) for n in range(4)]
    keys = [caller(rule("requests", 20)) for _ in workers]
    store.down = True
    counts = [await admitted(one, key, 50) for one, key in zip(workers, keys, strict=True)]
    assert counts == [20] * 4  # stated: workers times the limit in a minute
    clock.advance(30.0)
    assert await admitted(workers[0], keys[0], 5) == 0
    clock.advance(30.0)
    assert await admitted(workers[0], keys[0], 50) == 20


async def test_open_slots_are_counted_by_the_worker(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(rule("concurrent", 3))
    held = await take(limits, key)
    store.down = True
    assert await admitted(limits, key, 10, settle=False) == 2
    done(limits, held)
    assert await admitted(limits, key, 10, settle=False) == 1
    store.down = False
    await limits.flush()
    assert store.taken("team:t1", "key:k1:concurrent") == 3  # told anew


async def test_open_budgets_give_each_worker_its_share_of_what_was_left(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock, workers=4)
    key = caller(rule("spend_usd", usd(1.0), "day"))
    done(limits, await take(limits, key, cost=0.2), cost=0.2)
    await limits.flush()
    store.down = True
    assert await admitted(limits, key, 100) == 20  # (1.00 - 0.20) / 4, a cent each
    with pytest.raises(BudgetExceeded):
        await take(limits, key)
    store.down = False
    await limits.flush()
    assert store.taken("team:t1", DAY) == usd(0.2 + 0.2)
    assert await admitted(limits, key, 100) == 60
    await limits.flush()
    assert store.taken("team:t1", DAY) == usd(1.0)


async def test_leases_are_usable_while_the_store_is_down(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(rule("requests", 1000, fail="closed"))
    for _ in range(40):
        done(limits, await take(limits, key))
    store.down = True
    ticket = limits.admit(key, tokens=1, cost_usd=None)
    assert ticket is not None
    clock.advance(1.0)
    assert limits.admit(key, tokens=1, cost_usd=None) is None
    with pytest.raises(StateUnavailable):
        await take(limits, key)


def _kept(_: Store) -> None:
    """The store was only out of reach."""


@pytest.mark.parametrize("fate", [_kept, Store.lose])
async def test_after_an_outage_nothing_is_counted_twice(
    store: Store, clock: FakeClock, fate: Callable[[Store], None]
) -> None:
    """Spending before, during and after; requests that end in another phase than they began in."""
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(100), "day"), rule("concurrent", 50))
    total = 0.0
    over: list[tuple[object, float]] = []
    long = await take(limits, key, cost=3.0)
    for phase in range(3):
        store.down = phase == 1
        if phase == 2:
            fate(store)
            limits.store_is_back()
        for ticket, cost in over:
            done(limits, ticket, cost=cost)  # type: ignore[arg-type]
            total += cost
        over = [(await take(limits, key, cost=0.5), 0.3), (await take(limits, key, cost=0.5), 0.7)]
        for cost in (0.1, 0.25, 1.5):
            done(limits, await take(limits, key, cost=0.5), cost=cost)
            total += cost
        await limits.flush()
        await limits._quietly(limits._spending.flush)  # type: ignore[union-attr]
        clock.advance(2.0)
    for ticket, cost in [*over, (long, 2.0)]:
        done(limits, ticket, cost=cost)  # type: ignore[arg-type]
        total += cost
    await limits.close()
    assert store.taken("team:t1", DAY) == usd(total)
    assert store.taken("team:t1", "key:k1:concurrent") == 0
    assert dict(await spending.read("spend:team:t1:day:2027-01-15")) == {
        "key:k1:spend_usd": usd(total)
    }


@pytest.mark.parametrize("fate", [_kept, Store.lose])
async def test_a_settlement_without_an_answer_counts_once_whatever_became_of_it(
    store: Store, clock: FakeClock, fate: Callable[[Store], None]
) -> None:
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(100), "day"), rule("concurrent", 5))
    done(limits, await take(limits, key, cost=0.5), cost=2.0)
    store.mute = True
    await limits.flush()
    store.mute, store.down = False, True
    done(limits, await take(limits, key, cost=0.5), cost=1.0)
    await limits._quietly(limits._spending.flush)  # type: ignore[union-attr]
    store.down = False
    clock.advance(1.0)
    fate(store)
    limits.store_is_back()
    for _ in range(2):  # no request comes before these
        await limits.flush()
    done(limits, await take(limits, key), cost=0.25)
    await limits.flush()
    assert store.taken("team:t1", DAY) == usd(3.25)
    assert store.taken("team:t1", "key:k1:concurrent") == 0


async def test_a_reservation_whose_answer_was_lost_keeps_no_slot(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("concurrent", 5))
    store.mute = True
    ticket = await take(limits, key)
    store.mute = False
    await limits.flush()
    assert store.taken("team:t1", "key:k1:concurrent") == 1
    done(limits, ticket)
    await limits.flush()
    assert store.taken("team:t1", "key:k1:concurrent") == 0


async def test_an_outage_does_not_ask_the_durable_counters(store: Store, clock: FakeClock) -> None:
    spending = Counts()
    limits = limiter(store, clock, spending=spending)
    key = caller(rule("spend_usd", usd(100), "day"))
    done(limits, await take(limits, key))
    reads = spending.reads
    store.down = True
    for _ in range(20):
        done(limits, await take(limits, key))
    assert spending.reads == reads
