from __future__ import annotations

import pytest

from routeiq.access.principal import Rule
from tests.support.clock import FakeClock
from tests.unit.access.limits.helpers import Store, caller, done, limiter, rule, take, usd

pytestmark = pytest.mark.anyio


async def test_each_share_is_told_once_over_all_workers_and_again_in_the_next_period(
    clock: FakeClock,
) -> None:
    store = Store(clock)
    told: list[tuple[str, float, int]] = []

    def on_alert(rule: Rule, share: float, used: int) -> None:
        told.append((rule.scope, share, used))

    workers = [limiter(store, clock, f"w{n}", on_alert=on_alert) for n in range(3)]
    key = caller(rule("spend_usd", usd(1.0), "day", alert_at=(1.0, 0.5)))
    for day in range(2):
        for turn in range(12):
            one = workers[turn % 3]
            done(one, await take(one, key, cost=0.01), cost=0.09)
            await one.flush()
            if turn == 4:
                assert told[2 * day :] == []
            if turn == 8:
                assert [share for _, share, _ in told[2 * day :]] == [0.5]
        assert [share for _, share, _ in told[2 * day :]] == [0.5, 1.0]
        assert all(used >= share * usd(1.0) for _, share, used in told)
        clock.advance(86_400.0)


async def test_an_alert_waits_for_the_store_and_survives_who_fails_to_hear_it(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(clock)
    told: list[float] = []

    def on_alert(rule: Rule, share: float, used: int) -> None:
        told.append(share)
        raise ValueError("no audit")

    limits = limiter(store, clock, on_alert=on_alert)
    key = caller(rule("spend_tokens", 100, "total", alert_at=(0.5,)))
    ticket = await take(limits, key, tokens=10)
    store.down = True
    done(limits, ticket, tokens=60)
    await limits.flush()
    assert told == []
    store.down = False
    await limits.flush()
    await limits.flush()
    assert told == [0.5]
    assert "could not be delivered" in caplog.text


async def test_no_shares_no_alerts(clock: FakeClock) -> None:
    store = Store(clock)
    told: list[float] = []
    limits = limiter(store, clock, on_alert=lambda rule, share, used: told.append(share))
    key = caller(rule("spend_tokens", 100, "total"))
    done(limits, await take(limits, key, tokens=10), tokens=500)
    await limits.flush()
    assert told == []
