"""Redis and PostgreSQL that stop, hang or are not there yet, seen over HTTP: requests go on, counts stay true."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.chaos.tools import (
    AUTH,
    Load,
    admin,
    ask,
    bearer,
    breaker,
    budget_used,
    calls_to,
    configure,
    error_code,
    make_key,
    place,
    readiness,
    wait_idle,
    wait_store,
)
from tests.support.http import Answer, call
from tests.support.postgres import PostgresServer, own_server
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until
from tests.support.redis import RedisServer, needs_redis, redis_server

pytestmark = pytest.mark.timeout(120)
WORKERS = 2
THRESHOLD = 3
UNANSWERED = 60
"""Requests whose estimates, or leases for them, may be under way when Redis stops: a quarter second of traffic."""
OUTAGE_S = 2.0
MANY = 1_000_000
BACK_S = 3 * 5.0
"""Three times what is promised: the machine may be busy."""
PRICES: dict[str, Any] = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
BUDGET = {"usd": 1000.0, "per": "total"}


class Site:
    """A gateway with a Redis of its own."""

    def __init__(self, gateway: Gateway, redis: RedisServer) -> None:
        self.gateway = gateway
        self.redis = redis

    def wait(self, state: str) -> float:
        return wait_store(self.gateway, "redis", state, workers=WORKERS)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Site]:
    simulator.reset()
    experiment = {"variants": {"a": {}, "b": {}}, "models": ["pair"], "subject": ["request"]}
    path = configure(
        tmp_path_factory.mktemp("outages"),
        simulator,
        place("first", simulator.url, "sim-small", order=1, **PRICES),
        place("second", simulator.url, "sim-large", order=2, **PRICES),
        place("left", simulator.url, "sim-small", group="twins", **PRICES),
        place("right", simulator.url, "sim-small", group="twins", **PRICES),
        routeiq={"experiments": {"split": experiment}},
    )
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        env = {
            "REDIS_URL": redis.url,
            "ROUTEIQ_CB_FAILURE_THRESHOLD": str(THRESHOLD),
            "ROUTEIQ_CB_TIMEOUT_SECONDS": "600",
        }
        gateway = stack.enter_context(start_gateway(path, workers=WORKERS, env=env))
        yield Site(gateway, redis)


@pytest.fixture
def site(running: Site, sim: SimulatorProcess) -> Site:
    running.wait("up")
    return running


def judged(load: Load) -> tuple[list[Answer], list[Answer]]:
    """Answers and refusals; nothing else may have happened."""
    assert load.count("lost") == 0, load.outcomes
    answers = list(load.answers.values())
    return [a for a in answers if a.status == 200], [a for a in answers if a.status != 200]


def counted(gateway: Gateway) -> int:
    found = admin(gateway, "experiments/split/results")["variants"]
    assert {one["metrics"]["error_rate"]["mean"] for one in found.values()} <= {0.0, None}
    return sum(one["requests"] for one in found.values())


def ended(gateway: Gateway) -> int:
    found = admin(gateway, "experiments/split/results")["variants"]
    return sum(one["metrics"]["cost_usd"]["n"] for one in found.values())


@needs_redis
def test_redis_is_stopped_under_load(site: Site) -> None:
    gateway = site.gateway
    settings = {"limits": {"requests_per_minute": MANY}, "budgets": [BUDGET]}
    opened = make_key(gateway, "open", **settings)
    closed_limits = {"requests_per_minute": MANY, "fail": "closed"}
    closed = make_key(gateway, "closed", limits=closed_limits)
    before = counted(gateway)
    free = Load(gateway, clients=2, fresh=True, key=opened)
    strict = Load(gateway, clients=1, fresh=True, key=closed)
    wait_until(lambda: min(free.count("ok"), strict.count("ok")) > 10, "the load runs", 20.0)
    site.redis.stop()
    site.wait("down")
    status, word, stores = readiness(gateway)
    assert (status, word, stores["redis"], stores["database"]) == (200, "degraded", "down", "up")
    during, refused = free.count("ok"), strict.count("refused")
    time.sleep(OUTAGE_S)
    passed = free.count("ok") - during
    assert passed > 10
    assert strict.count("refused") > refused
    site.redis.start()
    assert site.wait("up") < BACK_S
    after, again = free.count("ok"), strict.count("ok")
    wait_until(lambda: free.count("ok") > after + 20, "the load goes on", 20.0)
    wait_until(lambda: strict.count("ok") > again + 5, "closed limits admit again", 20.0)
    free.stop()
    strict.stop()
    passed_free, failed_free = judged(free)
    passed_strict, failed_strict = judged(strict)
    assert failed_free == []
    for answer in failed_strict:
        assert (answer.status, error_code(answer)) == (503, "state_unavailable"), answer.body
        assert float(answer.headers["retry-after"]) > 0
    total = len(passed_free) + len(passed_strict)
    wait_idle(gateway)
    wait_until(lambda: counted(gateway) - before >= total, "exposures are counted", 15.0)
    wait_until(lambda: ended(gateway) >= counted(gateway), "ends are counted", 15.0)
    cost = sum(float(answer.headers["x-routeiq-cost-usd"]) for answer in passed_free)
    # A reservation that Redis carried out as it went down, and whose answer was lost, stays counted.
    unanswered = cost / len(passed_free) * UNANSWERED
    wait_until(lambda: settled(gateway, opened, cost, unanswered), "spending is settled", 15.0)
    time.sleep(0.5)  # what is sent twice would be counted by now
    assert counted(gateway) - before == total
    assert ended(gateway) - before == total
    assert settled(gateway, opened, cost, unanswered)


def settled(gateway: Gateway, key: str, cost: float, unanswered: float = 0.0) -> bool:
    return -1e-9 < budget_used(gateway, key) - cost < unanswered + 1e-9


@needs_redis
def test_a_redis_that_hangs_delays_a_few_requests_and_then_none(site: Site) -> None:
    gateway = site.gateway
    hung = make_key(gateway, "hung", limits={"requests_per_minute": MANY}, budgets=[BUDGET])
    strict = make_key(gateway, "hung-strict", limits={"concurrent_requests": 9, "fail": "closed"})
    assert ask(gateway, key=hung).status == ask(gateway, key=strict).status == 200
    site.redis.pause()
    try:
        times = [timed(gateway, hung) for _ in range(40)]
        # Each waits for a few time-outs of 0.25 s (and 1 s to connect) at most; three in a row are an outage.
        assert max(times) < 3 * 2.0
        assert sum(one > 0.2 for one in times) <= 2 * 3 * WORKERS
        site.wait("down")
        later = [timed(gateway, hung) for _ in range(20)]
        assert statistics.median(later) < 0.25, later
        refused = ask(gateway, key=strict)
        assert (refused.status, error_code(refused)) == (503, "state_unavailable")
    finally:
        site.redis.resume()
    assert site.wait("up") < BACK_S
    assert ask(gateway, key=strict).status == 200


def timed(gateway: Gateway, key: str) -> float:
    begun = time.monotonic()
    answer = ask(gateway, key=key)
    assert answer.status == 200, answer.body
    return time.monotonic() - begun


@needs_redis
def test_a_redis_that_forgot_everything_is_told_what_was_spent(site: Site) -> None:
    gateway = site.gateway
    key = make_key(gateway, "remembered", budgets=[BUDGET])
    answers = [ask(gateway, key=key) for _ in range(20)]
    cost = sum(float(answer.headers["x-routeiq-cost-usd"]) for answer in answers)
    wait_until(lambda: settled(gateway, key, cost), "spending is settled", 15.0)
    time.sleep(3 * 1.1)  # it is written to the database once a second
    site.redis.kill()
    site.wait("down")  # and nobody uses the key meanwhile
    site.redis.start(empty=True)
    assert site.wait("up") < BACK_S
    more = [ask(gateway, key=key) for _ in range(10)]
    cost += sum(float(answer.headers["x-routeiq-cost-usd"]) for answer in more)
    wait_until(lambda: settled(gateway, key, cost), "spending is what it was, and more", 15.0)


@needs_redis
def test_each_worker_keeps_breakers_and_conversations_while_redis_is_away(
    site: Site, sim: SimulatorProcess
) -> None:
    gateway = site.gateway
    conversation = {"x-routeiq-session-id": "kept"}
    home = ask(gateway, model="twins", headers=conversation).headers["x-routeiq-deployment"]
    for _ in range(WORKERS * 6):  # each worker has heard of it
        assert ask(gateway, model="twins", headers=conversation).status == 200
    site.redis.stop()
    try:
        site.wait("down")
        sim.reset()
        sim.behave("status=500", "sim-small")
        answers = [ask(gateway) for _ in range(30)]
        assert {one.headers["x-routeiq-deployment"] for one in answers} == {"second"}
        assert calls_to(sim, "sim-small") == WORKERS * THRESHOLD
        assert breaker(gateway, "first") == "open"
        sim.mend()
        # The twins run on the same simulated model, but their breakers are their own.
        turns = [ask(gateway, model="twins", headers=conversation) for _ in range(20)]
        assert {one.headers["x-routeiq-deployment"] for one in turns} == {home}
    finally:
        site.redis.start()
    assert site.wait("up") < BACK_S
    assert breaker(gateway, "first") == "open"  # what was learnt alone is not forgotten


def migrate(url: str) -> None:
    command = [sys.executable, "-m", "routeiq", "admin", "migrate", "--database-url", url]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def create(gateway: Gateway, alias: str) -> Answer:
    return call(f"{gateway.url}/routeiq/v1/keys", {"alias": alias}, headers=AUTH)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_server() as running:
        yield running


def test_a_gateway_that_finds_no_database_and_then_no_schema_becomes_ready_by_itself(
    tmp_path: Path, sim: SimulatorProcess, server: PostgresServer
) -> None:
    server.stop()
    with start_gateway(configure(tmp_path, sim), env={"DATABASE_URL": server.url}) as gateway:
        assert readiness(gateway)[:2] == (200, "degraded")
        assert ask(gateway).status == 200
        assert_unavailable(create(gateway, "early"))
        server.start()
        time.sleep(2.5)  # longer than the longest pause between two looks
        assert readiness(gateway)[:2] == (200, "degraded")
        assert ask(gateway).status == 200
        assert_unavailable(create(gateway, "early"))
        migrate(server.url)
        assert wait_store(gateway, "database", "up") < BACK_S
        assert readiness(gateway)[1] == "ready"
        made = create(gateway, "late")
        assert made.status == 201
        assert ask(gateway, key=made.json()["secret"]).status == 200


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, error_code(answer)) == (503, "state_unavailable"), answer.body
    assert float(answer.headers["retry-after"]) > 0


def store_report(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = admin(gateway, "status")["decision_store"]
    return found


def stored(server: PostgresServer) -> int:
    with closing(psycopg.connect(server.url)) as connection:
        row = connection.execute("SELECT count(*) FROM routeiq_decisions").fetchone()
    assert row is not None
    return int(row[0])


def test_postgresql_is_stopped(
    tmp_path: Path, sim: SimulatorProcess, server: PostgresServer
) -> None:
    migrate(server.url)
    queue = 20
    path = configure(tmp_path, sim, routeiq={"decisions": {"queue": queue}})
    with start_gateway(path, env={"DATABASE_URL": server.url}) as gateway:
        before = stored(server)
        budget = {"limits": {"requests_per_minute": MANY}, "budgets": [BUDGET]}
        known, unseen = make_key(gateway, "known", **budget), make_key(gateway, "unseen")
        asked = 5
        for _ in range(asked):
            assert ask(gateway, key=known).status == 200
        wait_until(lambda: store_report(gateway)["written"] == asked, "decisions are written")
        server.stop()
        assert ask(gateway, key=known).status == 200
        wait_store(gateway, "database", "down")
        assert_unavailable(ask(gateway, key=unseen))
        assert_unavailable(create(gateway, "meanwhile"))
        assert_unavailable(
            call(
                f"{gateway.url}/routeiq/v1/strategies/active",
                {"name": "round-robin"},
                method="PUT",
                headers=AUTH,
            )
        )
        wait_until(lambda: store_report(gateway)["error"] is not None, "writing was tried", 15.0)
        for _ in range(60):
            assert ask(gateway, key=known).status == 200
        asked += 61
        report = store_report(gateway)
        # The first of the 61 waits beside the queue, in the batch that could not be written.
        assert (report["written"], report["waiting"]) == (5, queue + 1)
        lost = report["dropped"]
        assert lost == 60 - queue
        server.start()
        assert wait_store(gateway, "database", "up") < BACK_S
        wait_until(lambda: store_report(gateway)["waiting"] == 0, "decisions are written", 15.0)
        report = store_report(gateway)
        assert (report["dropped"], report["written"]) == (lost, asked - lost)
        assert stored(server) - before == asked - lost
        assert ask(gateway, key=unseen).status == 200
        assert create(gateway, "afterwards").status == 201
        limits = call(f"{gateway.url}/routeiq/v1/usage", headers=bearer(known))
        assert limits.status == 200
