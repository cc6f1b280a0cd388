"""Two gateways on one PostgreSQL and one Redis: behind nginx they are as one; a lost network is one's own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from routeiq.ports import SystemClock
from routeiq.state.postgres_migrate import migrate_postgres
from tests.chaos.tools import (
    AUTH,
    Load,
    RawStream,
    admin,
    ask,
    calls_to,
    configure,
    error_code,
    make_key,
    place,
    readiness,
    wait_store,
)
from tests.support.http import Answer, call
from tests.support.nginx import Nginx, needs_nginx, start_nginx
from tests.support.postgres import own_database
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until
from tests.support.redis import RedisServer, needs_redis, redis_server
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

pytestmark = [pytest.mark.timeout(120), needs_redis]
WORKERS = 2
THRESHOLD = 3
CLIENTS = 6
REVOKED_S = 3 * 1.0
"""Three times what is promised."""
BACK_S = 3 * 5.0


def write_fleet_config(folder: Path, sim: SimulatorProcess) -> Path:
    variants: dict[str, Any] = {"a": {}, "b": {}, "c": {}, "d": {}}
    experiment = {"variants": variants, "models": ["twins"], "subject": ["session"]}
    return configure(
        folder,
        sim,
        place("first", sim.url, "sim-small", order=1),
        place("second", sim.url, "sim-large", order=2),
        *(place(name, sim.url, "sim-large", group="twins") for name in ("t1", "t2", "t3", "t4")),
        place("slow", sim.url, "sim-large#chunk_ms=50;chunks=30", group="slow"),
        routeiq={"experiments": {"sticky": experiment}},
    )


def fleet_env(database: str, redis: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "ROUTEIQ_CB_FAILURE_THRESHOLD": str(THRESHOLD),
        "ROUTEIQ_CB_TIMEOUT_SECONDS": "600",
    }


@contextmanager
def own_stores() -> Iterator[tuple[str, RedisServer]]:
    """A migrated database and a Redis."""
    with own_database() as database, redis_server() as redis:
        migrate_postgres(database, SystemClock())
        yield database, redis


@dataclass
class Fleet:
    gateways: list[Gateway]
    nginx: Nginx

    @property
    def url(self) -> str:
        return self.nginx.url

    def running(self) -> bool:
        return self.nginx.running()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    simulator.reset()
    path = write_fleet_config(tmp_path_factory.mktemp("fleet"), simulator)
    with ExitStack() as stack:
        database, redis = stack.enter_context(own_stores())
        env = fleet_env(database, redis.url)
        gateways = [
            stack.enter_context(start_gateway(path, workers=WORKERS, env=env)) for _ in range(2)
        ]
        nginx = stack.enter_context(start_nginx(*(one.url for one in gateways)))
        yield Fleet(gateways, nginx)


@pytest.fixture
def fleet(running: Fleet, sim: SimulatorProcess) -> Fleet:
    return running


def worker_of(fleet: Fleet) -> str:
    answer = call(f"{fleet.url}/routeiq/v1/status", headers=AUTH)
    worker: str = answer.json()["worker"]
    return worker


def seen_by_all(fleet: Fleet) -> bool:
    """Whether requests through nginx meet every worker of both gateways."""
    return len({worker_of(fleet) for _ in range(60)}) == 2 * WORKERS


def many(fleet: Fleet, count: int, **how: Any) -> list[Answer]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda _: ask(fleet, **how), range(count)))


@needs_nginx
def test_a_rate_limit_of_n_admits_n(fleet: Fleet) -> None:
    wait_until(lambda: seen_by_all(fleet), "every worker is met", 20.0)
    limit, clock = 60, SystemClock()
    key = make_key(fleet, "limited", limits={"requests_per_minute": limit})
    begun = clock.wall()
    answers = many(fleet, 2 * limit, key=key)

    def all_taken() -> bool:
        answers.extend(many(fleet, CLIENTS, key=key))
        return sum(one.status == 200 for one in answers) >= limit

    # What a worker had leased and did not use comes back within a second.
    wait_until(all_taken, "the whole limit was admitted", 10.0)
    answers += many(fleet, limit, key=key)
    admitted = sum(one.status == 200 for one in answers)
    refused = [one for one in answers if one.status != 200]
    assert {(one.status, error_code(one)) for one in refused} == {(429, "rate_limit_exceeded")}
    assert all(float(one.headers["retry-after"]) > 0 for one in refused)
    # Of a window that ended meanwhile, a part has slid out.
    new_window_s = clock.wall() % 60 if int(clock.wall() / 60) > int(begun / 60) else 0.0
    assert admitted <= limit + math.ceil(limit * new_window_s / 60)


@needs_nginx
def test_a_conversation_stays_with_its_deployment_whoever_answers(fleet: Fleet) -> None:
    homes = []
    for number in range(6):
        headers = {"x-routeiq-session-id": f"talk-{number}"}
        first = ask(fleet, model="twins", headers=headers)
        time.sleep(0.1)  # it is written behind the answer
        turns = many(fleet, 24, model="twins", headers=headers)
        places = {one.headers["x-routeiq-deployment"] for one in [first, *turns]}
        variants = {one.headers["x-routeiq-experiment"] for one in [first, *turns]}
        assert len(places) == 1, places
        assert len(variants) == 1, variants
        homes.append((places.pop(), variants.pop()))
    assert len({home for home, _ in homes}) > 1
    assert len({variant for _, variant in homes}) > 1
    asked = 6 * 25
    wait_until(lambda: exposures(fleet) >= asked, "exposures are counted")
    assert exposures(fleet) == asked


def exposures(fleet: Fleet) -> int:
    found = admin(fleet.gateways[0], "experiments/sticky/results")["variants"]
    return sum(one["requests"] for one in found.values())


@needs_nginx
def test_a_breaker_that_one_opened_protects_all(fleet: Fleet, sim: SimulatorProcess) -> None:
    sim.behave("status=500", "sim-small")
    gateway = fleet.gateways[0]
    while calls_to(sim, "sim-small") < THRESHOLD * WORKERS:  # some worker opens it before
        assert ask(gateway).status == 200
        if opened_everywhere(fleet):
            break
    wait_until(lambda: opened_everywhere(fleet), "everybody has heard of it", 10.0)
    touched = calls_to(sim, "sim-small")
    # The worker that opened it made THRESHOLD calls, the others of its gateway fewer.
    assert THRESHOLD <= touched <= THRESHOLD + (WORKERS - 1) * (THRESHOLD - 1)
    answers = many(fleet, 40)
    assert {one.headers["x-routeiq-deployment"] for one in answers} == {"second"}
    assert calls_to(sim, "sim-small") == touched


def opened_everywhere(fleet: Fleet) -> bool:
    states = {}
    for _ in range(60):
        status = call(f"{fleet.url}/routeiq/v1/status", headers=AUTH).json()
        states[status["worker"]] = status["breakers"].get("first")
        if len(states) == 2 * WORKERS:
            break
    return len(states) == 2 * WORKERS and set(states.values()) == {"open"}


@needs_nginx
def test_a_revoked_key_is_refused_everywhere(fleet: Fleet) -> None:
    key = make_key(fleet, "revoked")
    assert {one.status for one in many(fleet, 40, key=key)} == {200}  # all remember it
    took_s = []
    answer = call(f"{fleet.url}/routeiq/v1/keys/revoked/revoke", {}, headers=AUTH)
    begun = time.monotonic()
    assert answer.status == 200
    for _ in range(60):
        if ask(fleet, key=key).status != 401:
            took_s.append(time.monotonic() - begun)
    assert max(took_s, default=0.0) < REVOKED_S
    assert {one.status for one in many(fleet, 40, key=key)} == {401}


@needs_nginx
def test_a_gateway_is_terminated_under_load(fleet: Fleet) -> None:
    """The last test with this fleet. Whoever meets the closed gateway is sent on to the other by nginx."""
    with ExitStack() as stack:
        streams = [stack.enter_context(RawStream(fleet, model="slow")) for _ in range(8)]
        for stream in streams:  # by turns, so half of them are on the one that ends
            stream.until(b"data: ", 2)
        load = Load(fleet, clients=CLIENTS, fresh=False)
        stack.callback(load.stop)
        wait_until(lambda: load.count("ok") > 20, "the load runs", 20.0)
        first = fleet.gateways[0]
        first.terminate()
        for stream in streams:
            assert b'"error"' not in stream.until(b"data: [DONE]")
        assert first.wait(40.0) == 0
        before = load.count("ok")
        wait_until(lambda: load.count("ok") > before + 50, "the other goes on", 20.0)
        load.stop()
    bad = {text: outcome for text, outcome in load.outcomes.items() if outcome[0] != "ok"}
    assert bad == {}, fleet.nginx.log()[-2000:]


@dataclass
class Partition:
    """Two gateways; the first reaches its stores through proxies."""

    lonely: Gateway
    other: Gateway
    proxies: tuple[TcpProxy, TcpProxy]

    def each(self, what: str) -> None:
        for proxy in self.proxies:
            getattr(proxy, what)()


@pytest.fixture(scope="module")
def partition(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Partition]:
    simulator.reset()
    path = write_fleet_config(tmp_path_factory.mktemp("partition"), simulator)
    with ExitStack() as stack:
        database, redis = stack.enter_context(own_stores())
        parts = urlsplit(database)
        to_database = stack.enter_context(tcp_proxy(parts.port or 5432))
        to_redis = stack.enter_context(tcp_proxy(redis.port))
        far = parts._replace(netloc=f"{parts.username}@127.0.0.1:{to_database.port}").geturl()
        env = fleet_env(far, f"redis://127.0.0.1:{to_redis.port}/0")
        lonely = stack.enter_context(start_gateway(path, env=env))
        other = stack.enter_context(start_gateway(path, env=fleet_env(database, redis.url)))
        yield Partition(lonely, other, (to_database, to_redis))


def test_probes_open_no_connections(partition: Partition) -> None:
    gateway = partition.lonely
    wait_until(lambda: readiness(gateway)[1] == "ready", "all is well")
    assert ask(gateway, key=make_key(gateway, "probed")).status == 200
    time.sleep(0.5)
    before = [proxy.accepted for proxy in partition.proxies]
    assert min(before) > 0
    for path in ("ready", "live", "startup", "ready") * 50:
        assert call(f"{gateway.url}/_health/{path}").status == 200
    assert [proxy.accepted for proxy in partition.proxies] == before


@pytest.mark.parametrize("how", ["blackhole", "cut"])
def test_one_gateway_loses_its_network(partition: Partition, how: str) -> None:
    lonely, other = partition.lonely, partition.other
    wait_until(lambda: readiness(lonely)[1] == "ready", "all is well", 20.0)
    limits = {"requests_per_minute": 100_000}
    known = make_key(other, f"known-{how}", limits=limits)
    assert ask(lonely, key=known).status == ask(other, key=known).status == 200
    partition.each(how)
    try:
        far, near = [Load(one, clients=1, fresh=True, key=known) for one in (lonely, other)]
        wait_store(lonely, "redis", "down")
        wait_store(lonely, "database", "down")
        made = make_key(other, f"made-{how}")
        assert ask(other, key=made).status == 200
        unseen = ask(lonely, key=made)
        assert (unseen.status, error_code(unseen)) == (503, "state_unavailable")
        call(f"{other.url}/routeiq/v1/keys/known-{how}/revoke", {}, headers=AUTH)
        refused_here(other, known)
        assert ask(lonely, key=known).status == 200  # it cannot have heard
        assert readiness(other)[:2] == (200, "ready")
        far.stop()
        near.stop()
        assert far.count("ok") == len(far.outcomes) > 0
        assert {outcome[1] for outcome in near.outcomes.values()} <= {"200", "invalid_api_key"}
        assert near.count("lost") == 0
    finally:
        partition.each("heal")
    took_s = wait_store(lonely, "redis", "up") + wait_store(lonely, "database", "up")
    assert took_s < BACK_S
    refused_here(lonely, known)
    assert ask(lonely, key=made).status == 200


def refused_here(gateway: Gateway, key: str) -> None:
    wait_until(lambda: ask(gateway, key=key).status == 401, "the key is refused", REVOKED_S)
