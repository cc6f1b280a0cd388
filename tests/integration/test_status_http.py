"""What the gateway says about itself: stores, workers, generations; and readiness while a store is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import Fleet, Line, Stores, fleet, migrate, one_each
from tests.integration.helpers import catalogue, write
from tests.support.http import call
from tests.support.postgres import own_server
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until
from tests.support.redis import needs_redis, redis_server

pytestmark = [needs_redis, pytest.mark.timeout(120)]
READY = ("/_health/ready", "/health/ready", "/health/readiness", "/health")


def configured(folder: Path, sim: SimulatorProcess) -> Path:
    return write(folder, {"model_list": catalogue(sim.url)})


def metrics(line: Line) -> dict[str, float]:
    """As Prometheus asks: without a key."""
    answer = line.send("/metrics", headers={"authorization": ""})
    assert answer.status == 200
    lines = [one for one in answer.body.decode().splitlines() if not one.startswith("#")]
    return {name: float(value) for name, value in (one.rsplit(" ", 1) for one in lines)}


def ready(line: Line, path: str = READY[0]) -> dict[str, Any]:
    """Without a key, as probes ask."""
    answer = line.send(path, headers={"authorization": ""})
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    with fleet(configured(tmp_path_factory.mktemp("status"), simulator), workers=2) as made:
        yield made


def test_every_worker_is_listed_with_what_it_has_applied(gateways: Fleet) -> None:
    report = gateways.last.get("workers")
    assert report["agreed"] is True
    listed = {one["id"]: one for one in report["data"]}
    assert len(gateways.lines) == 4
    for line in gateways.lines:
        status, one = line.get("status"), listed[line.worker]
        assert (one["pid"], one["version"]) == (line.pid, status["version"])
        assert one["config"] == status["config"]["digest"]
        assert one["generation"] == status["control"]["generation"] == report["generation"]
        assert one["started_at"] <= one["seen_at"]


def test_the_generation_grows_with_each_change(gateways: Fleet) -> None:
    before = gateways.first.get("workers")["generation"]
    assert gateways.first.put("strategies/active", {"name": "random"}).status == 200
    gateways.reaches_all(
        lambda line: line.get("status")["control"]["generation"] == before + 1, "it is applied"
    )
    wait_until(gateways.agreed, "all report it")
    assert gateways.last.get("workers")["generation"] == before + 1
    assert gateways.last.get("status")["control"]["versions"]["strategy"] >= 1


def test_a_worker_that_ends_leaves_the_list(tmp_path: Path, sim: SimulatorProcess) -> None:
    with fleet(configured(tmp_path, sim), workers=1) as made:
        assert len(made.first.get("workers")["data"]) == 2
        made.gateways[1].terminate()
        wait_until(lambda: len(made.first.get("workers")["data"]) == 1, "it is gone", 20.0)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sqlite", {"database", "shared"}),
        ("postgres", {"database"}),
        ("redis", {"database", "redis"}),
    ],
)
def test_status_and_readiness_name_the_stores(
    tmp_path: Path, sim: SimulatorProcess, kind: Stores, names: set[str]
) -> None:
    with fleet(configured(tmp_path, sim), kind, gateways=1, workers=1) as made:
        line = made.first
        status = line.get("status")
        assert set(status["stores"]) == names
        wait_until(lambda: line.get("status")["hearing"], "it hears announcements")
        for path in READY:
            said = ready(line, path)
            assert said["status"] == "ready"
            assert {name: one["state"] for name, one in said["stores"].items()} == dict.fromkeys(
                names, "up"
            )
        discreet(made, json.dumps([status, said]))


def discreet(made: Fleet, text: str) -> None:
    """Where the stores are is nobody's business."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        place = made.env.get(name, "").rpartition("@")[2].rpartition("://")[2]
        assert not place or place.strip("/") not in text


def test_readiness_is_degraded_while_redis_is_away(tmp_path: Path, sim: SimulatorProcess) -> None:
    with fleet(configured(tmp_path, sim), gateways=1, workers=2) as made:
        assert made.redis is not None
        made.redis.stop()
        made.reaches_all(lambda line: ready(line)["status"] == "degraded", "it is noticed", 15.0)
        for line in made.lines:
            states = {name: one["state"] for name, one in ready(line)["stores"].items()}
            assert states == {"database": "up", "redis": "down"}
            status = line.get("status")
            assert (status["hearing"], status["stores"]["redis"]["outages"]) == (False, 1)
            away = metrics(line)
            assert (
                away['routeiq_store_up{store="redis"}'],
                away["routeiq_announcements_heard"],
            ) == (0, 0)
            assert away['routeiq_store_up{store="database"}'] == 1
            assert away['routeiq_store_outages_total{store="redis"}'] == 1
            assert line.chat().status == 200
        made.redis.start()
        made.reaches_all(lambda line: ready(line)["status"] == "ready", "it is back", 15.0)
        made.reaches_all(lambda line: line.get("status")["hearing"], "it hears again", 15.0)
        assert {metrics(line)['routeiq_store_up{store="redis"}'] for line in made.lines} == {1}


def test_readiness_is_degraded_while_postgresql_is_away(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    path = configured(tmp_path, sim)
    with own_server() as server, redis_server() as redis:
        migrate(server.url)
        env = {"DATABASE_URL": server.url, "REDIS_URL": redis.url}
        with fleet(path, "sqlite", gateways=1, workers=1, env=env) as made:
            line = made.first
            assert ready(line)["status"] == "ready"
            server.stop()
            wait_until(lambda: ready(line)["status"] == "degraded", "it is noticed", 15.0)
            states = {name: one["state"] for name, one in ready(line)["stores"].items()}
            assert states == {"database": "down", "redis": "up"}
            assert line.chat().status == 200
            refused = line.send("/routeiq/v1/workers")
            assert (refused.status, refused.json()["error"]["code"]) == (503, "state_unavailable")
            changed = line.put("strategies/active", {"name": "random"})
            assert (changed.status, changed.json()["error"]["code"]) == (503, "state_unavailable")
            assert line.chat().headers["x-routeiq-strategy"] != "random"
            server.start()
            wait_until(lambda: ready(line)["status"] == "ready", "it is back", 15.0)
            assert line.put("strategies/active", {"name": "random"}).status == 200
            assert line.chat().headers["x-routeiq-strategy"] == "random"


def test_it_starts_though_its_stores_are_away(tmp_path: Path, sim: SimulatorProcess) -> None:
    """The probe says `degraded`, requests are answered, and what was set is applied when the store is there."""
    path = configured(tmp_path, sim)
    with own_server() as server:
        migrate(server.url)
        env = {"DATABASE_URL": server.url}
        with fleet(path, "sqlite", gateways=1, workers=1, env=env) as made:
            assert made.first.put("strategies/active", {"name": "random"}).status == 200
        server.stop()
        with start_gateway(path, env=env) as gateway:
            (line,) = one_each(gateway, 1)
            assert ready(line)["status"] == "degraded"
            assert line.chat().headers["x-routeiq-strategy"] != "random"
            server.start()
            wait_until(
                lambda: line.chat().headers["x-routeiq-strategy"] == "random", "it is read", 15.0
            )
            assert ready(line)["status"] == "ready"
            line.close()


def test_probes_need_no_key_and_status_does(gateways: Fleet) -> None:
    def statuses(gateway: Gateway, path: str) -> int:
        return call(gateway.url + path).status

    first = gateways.gateways[0]
    assert {statuses(first, path) for path in READY} == {200}
    assert statuses(first, "/_health/live") == statuses(first, "/_health/startup") == 200
    for page in ("status", "workers", "breakers", "audit", "sync", "config", "strategies/active"):
        assert statuses(first, f"/routeiq/v1/{page}") == 401
