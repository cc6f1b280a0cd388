from __future__ import annotations

import pytest

from routeiq.exceptions import RateLimitExceeded
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio
DAY = "key:k1:spend_usd:day:2027-01-15"
RULES = (
    rule("requests", 100),
    rule("tokens", 10**6),
    rule("spend_usd", usd(100), "day"),
    rule("spend_tokens", 10**6, "total"),
    rule("concurrent", 10),
)


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


def taken(store: Store) -> tuple[int, int, int, int, int]:
    names = ("requests", "tokens", "spend_usd:day:2027-01-15", "spend_tokens:total", "concurrent")
    found = [store.taken("team:t1", f"key:k1:{name}") for name in names]
    return (found[0], found[1], found[2], found[3], found[4])


@pytest.mark.parametrize(
    ("tokens", "cost", "answered", "left"),
    [
        (400, 0.25, True, (1, 400, usd(0.25), 400, 0)),
        (2000, 2.0, True, (1, 2000, usd(2.0), 2000, 0)),
        (None, None, True, (1, 1000, usd(0.5), 1000, 0)),  # nobody said: the estimate stands
        (400, None, True, (1, 400, usd(0.5), 400, 0)),
        (None, 0.3, True, (1, 1000, usd(0.3), 1000, 0)),
        (0, 0.0, True, (1, 0, 0, 0, 0)),
        (None, None, False, (1, 0, 0, 0, 0)),  # failed: only the request counts
        (70, 0.1, False, (1, 70, usd(0.1), 70, 0)),  # failed halfway
    ],
)
async def test_what_stays_counted(
    store: Store,
    clock: FakeClock,
    tokens: int | None,
    cost: float | None,
    answered: bool,
    left: tuple[int, ...],
) -> None:
    limits = limiter(store, clock)
    ticket = await take(limits, caller(*RULES), tokens=1000, cost=0.5)
    assert taken(store) == (1, 1000, usd(0.5), 1000, 1)
    done(limits, ticket, tokens=tokens, cost=cost, answered=answered)
    await limits.flush()
    assert taken(store) == left


async def test_only_the_first_settlement_counts(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    ticket = await take(limits, caller(*RULES), tokens=1000, cost=0.5)
    done(limits, ticket, tokens=300, cost=0.1)
    done(limits, ticket, tokens=900, cost=9.0)
    await limits.flush()
    done(limits, ticket, answered=False, tokens=None, cost=None)
    await limits.flush()
    assert taken(store) == (1, 300, usd(0.1), 300, 0)


async def test_a_batch_whose_answer_was_lost_counts_once(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    key = caller(*RULES)
    done(limits, await take(limits, key, tokens=1000, cost=0.5), tokens=300, cost=0.1)
    store.mute = True
    await limits.flush()
    assert taken(store) == (1, 300, usd(0.1), 300, 0)
    for _ in range(3):
        await limits.flush()
    store.mute = False
    await limits.flush()
    assert taken(store) == (1, 300, usd(0.1), 300, 0)
    done(limits, await take(limits, key, tokens=1000, cost=0.5), tokens=200, cost=0.1)
    await limits.flush()
    assert taken(store) == (2, 500, usd(0.2), 500, 0)
    assert limits.report()["unsent_tenants"] == 0


async def test_memory_is_bounded_by_buckets_while_the_store_is_down(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(*RULES)
    store.down = True
    for _ in range(90):
        done(limits, await take(limits, key), tokens=20, cost=0.02)
        await limits.flush()
    tenant = limits._plans.tenants["team:t1"]
    assert len(tenant.pending) <= len(RULES)
    assert tenant.sending is None or len(tenant.sending) <= 2 * len(RULES)
    store.down = False
    await limits.flush()
    assert taken(store)[2:] == (usd(0.02) * 90, 90 * 20, 0)


async def test_many_tenants_are_flushed_together(store: Store, clock: FakeClock) -> None:
    limits = limiter(store, clock)
    keys = [caller(*RULES, tenant=f"key:{n}") for n in range(40)]
    for key in keys:
        done(limits, await take(limits, key, tokens=1000, cost=0.5), tokens=300, cost=0.1)
    await limits.flush()
    assert store.adjusts == 40
    assert all(store.taken(key.tenant, DAY) == usd(0.1) for key in keys)


async def test_a_freed_slot_that_somebody_may_wait_for_is_told_at_once(
    store: Store, clock: FakeClock
) -> None:
    limits = limiter(store, clock)
    key = caller(rule("concurrent", 2))
    first = await take(limits, key)
    done(limits, first)
    assert not limits._settlement.wake.is_set()
    tickets = [await take(limits, key) for _ in range(2)]
    with pytest.raises(RateLimitExceeded):
        await take(limits, key)
    done(limits, tickets[0])
    assert limits._settlement.wake.is_set()
