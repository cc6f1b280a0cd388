"""Budgets of keys, users and teams over HTTP: spending stops, is what it really cost, and is not forgotten."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.access import (
    Fleet,
    Made,
    models,
    shared_fleet,
    sqlite_fleet,
    together,
    until,
)
from tests.integration.helpers import assert_error, write
from tests.support.http import Answer
from tests.support.processes import SimulatorProcess, start_gateway

MODEL = "sim-large"
THREADS = 8
NANO = 1e-9
SPENDING_S = 1.0
"""How often spending is written where it survives the loss of Redis."""


def config(folder: Path, simulator: SimulatorProcess) -> Path:
    return write(folder, {"model_list": models(simulator.url)})


@pytest.fixture(scope="module")
def sqlite(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    with sqlite_fleet(config(tmp_path_factory.mktemp("sqlite"), simulator)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared_config(tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess) -> Path:
    return config(tmp_path_factory.mktemp("shared"), simulator)


@pytest.fixture(scope="module")
def shared(shared_config: Path) -> Iterator[Fleet]:
    with shared_fleet(shared_config) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "shared"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    found: Fleet = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def sim(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """Every answer has 60 tokens, so every request of the same prompt costs the same."""
    simulator.reset()
    simulator.behave("tokens=60")
    yield simulator
    simulator.reset()


def cost(answer: Answer) -> float:
    return float(answer.headers["x-routeiq-cost-usd"])


def used(fleet: Fleet, made: Made, kind: str = "spend_usd") -> float:
    return fleet.used(made, kind, "budgets")


def settled(fleet: Fleet, made: Made, usd: float) -> None:
    """Until the budget has exactly this, up to one nano-USD for each of a few hundred requests."""
    until(lambda: used(fleet, made) == pytest.approx(usd, abs=300 * NANO), f"{usd} is used", 1.0)


def price(fleet: Fleet) -> float:
    return cost(fleet.chat(fleet.key().secret, MODEL, max_tokens=100))


def spend(fleet: Fleet, secret: str, share: float, budget: float) -> float:
    """Spend this share of a budget, one request after the other; what was spent."""
    spent = 0.0
    while spent < share * budget:
        found: list[Answer] = []

        def passed(found: list[Answer] = found) -> bool:
            found[:] = [fleet.chat(secret, MODEL, max_tokens=100)]
            return found[0].status == 200

        # Estimates that are not settled yet may be in the way for a moment.
        until(passed, "there is room for one more", 1.0)
        spent += cost(found[0])
    return spent


@pytest.mark.parametrize("level", ["key", "user", "team"])
def test_spending_stops_at_the_budget(fleet: Fleet, sim: SimulatorProcess, level: str) -> None:
    one = price(fleet)
    budget = round(25 * one, 6)
    settings = {"budgets": [{"usd": budget, "per": "total"}]}
    if level == "key":
        made = fleet.key(**settings)
        secrets = [made.secret]
    else:
        made = fleet.make(level, settings=settings)
        secrets = [fleet.make("key", **{level: made.id}).secret for _ in range(2)]
    before = sim.stats()["models"][MODEL]["cost_usd"]

    def ask(number: int) -> Answer:
        return fleet.chat(secrets[number % len(secrets)], MODEL, max_tokens=100)

    answers = together(ask, 60, THREADS)
    good = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(good) + len(refused) == 60
    spent = sum(map(cost, good))
    assert budget - 8 * one <= spent <= budget + THREADS * one
    settled(fleet, made, spent)
    after = sim.stats()["models"][MODEL]["cost_usd"]
    assert after - before == pytest.approx(spent, rel=1e-6), "by the provider's own books"
    for answer in (refused[0], fleet.chat(secrets[-1], MODEL, text="word " * 60_000)):
        error = assert_error(answer, 429, "budget_exceeded", says=f"total budget of this {level}")
        assert error["type"] == "insufficient_quota"
        assert "retry-after" not in answer.headers
    until(lambda: used(fleet, made) <= budget, "estimates are settled", 1.0)


def test_streams_cost_what_they_cost_and_failures_nothing(
    fleet: Fleet, sim: SimulatorProcess
) -> None:
    key = fleet.key(budgets=[{"usd": 5, "per": "day"}])
    one = cost(fleet.chat(key.secret, MODEL))
    settled(fleet, key, one)
    for more in ({}, {"stream_options": {"include_usage": True}}):
        streamed = fleet.chat(key.secret, MODEL, stream=True, max_tokens=5000, **more)  # type: ignore[arg-type]
        assert streamed.events()[-1] == "[DONE]"
    settled(fleet, key, 3 * one)
    for behaviour in ("status=500", "status=400", "close"):
        sim.behave(behaviour, MODEL)
        assert fleet.chat(key.secret, MODEL, max_tokens=5000).status >= 400
        assert fleet.chat(key.secret, MODEL, max_tokens=5000, stream=True).status >= 400
        sim.mend(MODEL)
    settled(fleet, key, 3 * one)
    sim.behave("chunks=50;chunk_ms=200", MODEL)
    hasty = fleet.key(budgets=[{"usd": 5, "per": "day"}])  # another one: this one may have leases
    left = fleet.send(hasty.secret, MODEL, stream=True, max_tokens=60)
    assert left.status() == 200
    left.leave()
    until(lambda: not sim.stats()["in_flight"], "the provider is told", 1.0)
    time.sleep(0.3)
    assert 0 < used(fleet, hasty) < 3 * one, "what it may have cost stays counted"


def test_tokens_are_a_budget_too(fleet: Fleet) -> None:
    key = fleet.key(budgets=[{"tokens": 1000, "per": "total"}])
    tokens = 0
    for _ in range(40):
        answer = fleet.chat(key.secret, MODEL, max_tokens=100)
        if answer.status != 200:
            break
        tokens += answer.json()["usage"]["total_tokens"]
        until(lambda so_far=tokens: used(fleet, key, "spend_tokens") == so_far, "settled", 1.0)  # type: ignore[misc]
    assert_error(answer, 429, "budget_exceeded", says="tokens")
    assert 700 < tokens <= 1000


def ends() -> dict[str, datetime | None]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "day": midnight + timedelta(days=1),
        "week": midnight + timedelta(days=7 - midnight.weekday()),
        "month": (midnight.replace(day=1) + timedelta(days=32)).replace(day=1),
        "total": None,
    }


@pytest.mark.parametrize("per", ["day", "week", "month", "total"])
def test_periods_end_with_the_calendar(sqlite: Fleet, per: str) -> None:
    key = sqlite.key(budgets=[{"usd": NANO, "per": per}])
    before = ends()[per]
    first = sqlite.chat(key.secret, MODEL)
    (shown,) = sqlite.read("/usage", key=key.secret)["budgets"]
    error = assert_error(first, 429, "budget_exceeded")
    assert (shown["per"], shown["limit"], shown["unit"]) == (per, NANO, "usd")
    if before == ends()[per]:  # it did not end just now
        assert shown["resets_at"] == (None if before is None else before.timestamp())
        said = "resets" not in error["message"]
        assert said if before is None else f"{before:%Y-%m-%dT%H:%M:%SZ}" in error["message"]


def test_several_budgets_hold_and_each_level_shows_its_own(fleet: Fleet) -> None:
    one = price(fleet)
    team = fleet.make("team", settings={"budgets": [{"usd": 100 * one, "per": "month"}]})
    key = fleet.make(
        "key",
        team=team.id,
        settings={
            "budgets": [{"usd": 50 * one, "per": "week"}, {"usd": 3.5 * one, "per": "day"}],
            "limits": {"requests_per_minute": 1000},
        },
    )
    spent = 0.0
    for _ in range(8):
        answer = fleet.chat(key.secret, MODEL, max_tokens=60)
        if answer.status == 429:
            break
        spent += cost(answer)
        settled(fleet, team, spent)
    assert_error(answer, 429, "budget_exceeded", says="daily budget of this key")
    assert int(answer.headers["retry-after"]) <= 86_400
    rows = fleet.read(f"/budgets?key={key.alias}")["data"]
    assert [(row["level"], row["per"]) for row in rows] == [
        ("key", "week"),
        ("key", "day"),
        ("team", "month"),
    ]
    for row in rows:
        assert row["used"] == pytest.approx(spent, abs=20 * NANO)
        assert row["remaining"] == pytest.approx(row["limit"] - row["used"], abs=NANO)
    own = fleet.read("/usage", key=key.secret)
    assert own["budgets"] == rows or [row["used"] for row in own["budgets"]] == [
        row["used"] for row in rows
    ]
    assert [row["limits"] for row in own["limits"]] == ["requests"]


def alerts(fleet: Fleet, key: Made) -> tuple[list[float], list[float]]:
    """Shares that were warned of: in the logs of all gateways, and in the audit log."""
    lines = [json.loads(line) for line in fleet.logs().splitlines() if '"budget alert"' in line]
    logged = sorted(one["share"] for one in lines if one["scope"] == f"key:{key.id}")
    rows = [row for row in fleet.audit(f"key:{key.id}") if row["action"] == "budgets.alert"]
    return logged, sorted(row["details"]["share"] for row in rows)


def test_an_alert_comes_once_over_all_workers(fleet: Fleet) -> None:
    one = price(fleet)
    budget = 40 * one
    warned = fleet.key(budgets=[{"usd": budget, "per": "day"}])
    early = fleet.key(budgets=[{"usd": budget, "per": "day", "alert_at": [0.2, 0.5]}])
    silent = fleet.key(budgets=[{"usd": budget, "per": "day", "alert_at": []}])
    keys = (warned, early, silent)
    together(lambda n: fleet.chat(keys[n % 3].secret, MODEL, max_tokens=60), 3 * 25, THREADS)
    assert alerts(fleet, warned) == ([], [])
    together(lambda n: fleet.chat(keys[n % 3].secret, MODEL, max_tokens=60), 3 * 12, THREADS)
    until(lambda: bool(alerts(fleet, warned)[1]), "it is warned", 2.0)
    time.sleep(0.5)  # for a second one, which must not come
    assert alerts(fleet, warned) == ([0.8], [0.8])
    assert alerts(fleet, early) == ([0.2, 0.5], [0.2, 0.5])
    assert alerts(fleet, silent) == ([], [])
    (row,) = fleet.audit(f"key:{warned.id}")
    assert (row["actor"], row["details"]["per"]) == ("routeiq", "day")
    assert 0.8 * budget <= row["details"]["used"] * NANO <= 1.1 * budget


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_budgets_survive_a_restart(tmp_path: Path, simulator: SimulatorProcess, end: str) -> None:
    path = config(tmp_path, simulator)
    with sqlite_fleet(path) as fleet:
        budget = 12 * price(fleet)
        key = fleet.key(budgets=[{"usd": budget, "per": "total"}])
        spent = spend(fleet, key.secret, 0.6, budget)
        if end == "SIGKILL":
            settled(fleet, key, spent)
            for line in fleet.lines:
                os.kill(line.pid, signal.SIGKILL)
    with sqlite_fleet(path) as fleet:
        assert used(fleet, key) == pytest.approx(spent, abs=100 * NANO)
        answers = [fleet.chat(key.secret, MODEL, max_tokens=100).status for _ in range(12)]
        assert answers.count(200) <= 5
        assert answers[-1] == 429


def test_the_loss_of_what_redis_had(shared: Fleet, shared_config: Path) -> None:
    redis = shared.redis
    assert redis is not None
    budget = 20 * price(shared)
    key = shared.key(budgets=[{"usd": budget, "per": "total"}])
    spent = spend(shared, key.secret, 0.7, budget)
    time.sleep(SPENDING_S * 2)
    redis.client.flushall()
    until(lambda: used(shared, key) >= 0.99 * spent, "it is known again", 2.0)
    env = {"DATABASE_URL": shared.database, "REDIS_URL": redis.url}
    with start_gateway(shared_config, env=env) as restarted:
        alone = Fleet([restarted], 1, database=shared.database, redis=redis)
        assert used(alone, key) == pytest.approx(spent, abs=100 * NANO)
        alone.hang_up()
    answers = together(lambda _: shared.chat(key.secret, MODEL, max_tokens=100), 40, THREADS)
    spent += sum(cost(one) for one in answers if one.status == 200)
    assert spent <= budget + THREADS * cost(next(one for one in answers if one.status == 200))
    assert {one.status for one in answers} == {200, 429}
    settled(shared, key, spent)


def test_redis_away(shared: Fleet) -> None:
    redis = shared.redis
    assert redis is not None
    one = price(shared)
    open_, closed = (
        shared.key(budgets=[{"usd": budget * one, "per": "month", "fail": fail}])
        for budget, fail in ((40, "open"), (40_000, "closed"))
    )
    known = 0.0
    for key in (open_, closed):
        answers = [
            shared.chat(key.secret, MODEL, line=line, max_tokens=60) for line in shared.lines
        ]
        known = sum(map(cost, answers))
    settled(shared, open_, known)
    redis.stop()
    try:
        for line in shared.lines:
            answer = shared.chat(closed.secret, MODEL, line=line)
            assert_error(answer, 503, "state_unavailable", says="budget")
            assert answer.headers["retry-after"] == "1"
        answers = together(lambda _: shared.chat(open_.secret, MODEL, max_tokens=60), 80, THREADS)
        assert {answer.status for answer in answers} == {200, 429}
        known += sum(cost(answer) for answer in answers if answer.status == 200)
        assert 20 * one < known <= (40 + THREADS) * one
    finally:
        redis.start()
    until(
        lambda: (
            {shared.chat(closed.secret, MODEL, line=line).status for line in shared.lines} == {200}
        ),
        "closed budgets are counted",
        5.0,
    )
    until(
        lambda: used(shared, open_) == pytest.approx(known, rel=0.02),
        "what was spent meanwhile is reported, once",
        5.0,
    )
