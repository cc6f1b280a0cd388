"""The active strategy, changed while it runs: versions, every worker of two gateways, restarts, lost news."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from routeiq.routing.router import DEFAULT_STRATEGY
from tests.integration.fleet import BASE, Fleet, Line, Stores, fleet
from tests.integration.helpers import EASY, assert_error, catalogue, write
from tests.support.http import Answer
from tests.support.processes import SimulatorProcess, start_gateway, wait_until
from tests.support.redis import needs_redis

ACTIVE = "strategies/active"
NEVER = {"state": {"reread_s": 600.0}}
"""Nothing is read again by itself: what arrives was announced."""
BOUND_S = 3.0
"""Three times what is promised: a machine that runs tests is slow now and then."""


def configured(folder: Path, sim: SimulatorProcess, **section: Any) -> Path:
    return write(folder, {"model_list": catalogue(sim.url), "routeiq": {**NEVER, **section}})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess) -> Iterator[Fleet]:
    """Two gateways of four workers on PostgreSQL and Redis."""
    with fleet(configured(tmp_path_factory.mktemp("pair"), simulator)) as made:
        yield made


@pytest.fixture
def calm(pair: Fleet) -> Iterator[Fleet]:
    """With the configured strategy before and after."""
    yield pair
    assert pair.first.send(f"{BASE}/{ACTIVE}", method="DELETE").status == 200
    pair.reaches_all(lambda line: strategy(line) == DEFAULT_STRATEGY, "the configured strategy")


pytestmark = [needs_redis, pytest.mark.timeout(120)]


def strategy(line: Line) -> str:
    """By what a request is really routed."""
    answer = line.chat()
    assert answer.status == 200, answer.body
    return answer.headers["x-routeiq-strategy"]


def reset(line: Line, **headers: str) -> Answer:
    return line.send(f"{BASE}/{ACTIVE}", method="DELETE", headers=headers)


def switched(made: Fleet, line: Line, name: str) -> None:
    """Switch at one worker; all route by it and say so soon."""
    answer = line.put(ACTIVE, {"name": name})
    assert answer.status == 200, answer.body
    assert strategy(line) == name  # whoever was told routes by it before it answers
    made.reaches_all(lambda one: strategy(one) == name, f"{name} is active", BOUND_S)
    wait_until(made.agreed, "all workers report the change", BOUND_S)


@pytest.mark.parametrize(("kind", "gateways"), [("sqlite", 1), ("postgres", 2)])
def test_a_switch_reaches_every_worker_and_survives_a_restart(
    tmp_path: Path, sim: SimulatorProcess, kind: Stores, gateways: int
) -> None:
    path = configured(tmp_path, sim)
    with fleet(path, kind, gateways=gateways) as made:
        assert {strategy(line) for line in made.lines} == {DEFAULT_STRATEGY}
        switched(made, made.first, "random")
        switched(made, made.last, "round-robin")
        assert reset(made.last).status == 200
        made.reaches_all(
            lambda line: strategy(line) == DEFAULT_STRATEGY, "the configured one", BOUND_S
        )
        switched(made, made.first, "lowest-cost")
        with start_gateway(path, workers=1, env=made.env) as later:
            begins = Line(later)
            assert strategy(begins) == "lowest-cost"  # from its first request on
            assert begins.get(ACTIVE)["version"] == 4
            begins.close()
        made.gateways[0].close()
        with start_gateway(path, workers=1, env=made.env) as again:
            line = Line(again)
            assert strategy(line) == "lowest-cost"
            line.close()


def test_a_switch_reaches_two_gateways_at_once(calm: Fleet) -> None:
    assert len({line.worker for line in calm.lines}) == 8
    for number, name in enumerate(("random", "round-robin", "lowest-cost", "random")):
        switched(calm, calm.lines[number * 2], name)
    found = calm.last.get(ACTIVE)
    assert (found["override"], found["active"]) == ({"name": "random", "options": {}}, "random")
    assert found["problem"] is None


def test_a_stale_version_changes_nothing(calm: Fleet) -> None:
    line, other = calm.first, calm.last
    before = line.send(f"{BASE}/{ACTIVE}")
    seen = before.headers["etag"]
    assert seen == f'"{before.json()["version"]}"'
    first = other.put(ACTIVE, {"name": "random"}, **{"if-match": seen})
    assert first.status == 200
    assert first.headers["etag"] != seen
    assert_error(line.put(ACTIVE, {"name": "round-robin"}, **{"if-match": seen}), 412)
    assert_error(reset(line, **{"if-match": seen}), 412)
    assert_error(line.put(ACTIVE, {"name": "random"}, **{"if-match": "abc"}), 400)
    now = line.send(f"{BASE}/{ACTIVE}")
    assert (now.headers["etag"], now.json()["override"]["name"]) == (
        first.headers["etag"],
        "random",
    )
    assert line.put(ACTIVE, {"name": "round-robin"}, **{"if-match": "*"}).status == 200
    assert reset(line, **{"if-match": line.send(f"{BASE}/{ACTIVE}").headers["etag"]}).status == 200


def test_of_many_who_saw_the_same_version_one_wins(calm: Fleet) -> None:
    seen = calm.first.send(f"{BASE}/{ACTIVE}").headers["etag"]

    def change(line: Line) -> int:
        return line.put(ACTIVE, {"name": "random"}, **{"if-match": seen}).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(change, calm.lines)) == [200] + [412] * 7


def test_what_cannot_be_used_is_refused_with_a_hint_and_stores_nothing(calm: Fleet) -> None:
    line = calm.first
    before = line.get(ACTIVE)
    assert_error(line.put(ACTIVE, {"name": "rond-robin"}), 400, says="round-robin", param="name")
    assert_error(line.put(ACTIVE, {"name": "random", "options": {"speed": 1}}), 400, says="speed")
    assert_error(line.put(ACTIVE, {"name": "random", "weight": 1}), 400, param="weight")
    assert_error(line.put(ACTIVE, {}), 400, param="name")
    assert_error(line.put(ACTIVE, ["random"]), 400)
    assert line.get(ACTIVE) == before
    assert {strategy(one) for one in calm.lines} == {DEFAULT_STRATEGY}


def test_who_changed_it_is_on_record(calm: Fleet) -> None:
    line = calm.first
    changed = calm.last.put(ACTIVE, {"name": "random"}, **{"x-request-id": "switch-4711"})
    assert changed.status == 200
    assert calm.last.put(ACTIVE, {"name": "nonsense"}).status == 400
    reset(line)
    rows = line.get("audit?limit=2")["data"]
    assert [row["action"] for row in rows] == ["strategies.reset", "strategies.activate"]
    assert rows[1]["target"] == "auto"
    assert rows[1]["request_id"] == changed.headers["x-request-id"]
    assert rows[1]["actor"] == rows[0]["actor"]
    assert rows[1]["actor"]


def test_reading_and_changing_need_their_permission(calm: Fleet) -> None:
    def key(*permissions: str) -> dict[str, str]:
        body = {"alias": f"of {permissions}", "settings": {"permissions": list(permissions)}}
        made = calm.first.send(f"{BASE}/keys", body)
        assert made.status == 201, made.body
        return {"authorization": f"Bearer {made.json()['secret']}"}

    def tries(headers: dict[str, str]) -> tuple[int, int, int]:
        target = f"{BASE}/{ACTIVE}"
        body = {"name": "random"}
        put = calm.last.send(target, body, method="PUT", headers=headers).status
        deleted = calm.last.send(target, method="DELETE", headers=headers).status
        return (calm.last.send(target, headers=headers).status, put, deleted)

    assert tries(key()) == (403, 403, 403)
    assert tries(key("strategies.read")) == (200, 403, 403)
    assert tries(key("strategies.write", "keys.read")) == (403, 200, 200)
    assert tries(key("strategies.*")) == (200, 200, 200)
    assert tries({"authorization": "Bearer sk-riq-nobody"}) == (401, 401, 401)


def test_a_revoked_key_is_refused_everywhere_at_once(calm: Fleet) -> None:
    made = calm.first.send(f"{BASE}/keys", {"alias": "short-lived"}).json()
    mine = {"authorization": f"Bearer {made['secret']}"}
    assert {line.chat(headers=mine).status for line in calm.lines} == {200}
    assert calm.first.send(f"{BASE}/keys/{made['id']}/revoke", {}).status == 200
    calm.reaches_all(
        lambda line: line.chat(headers=mine).status == 401, "the key is refused", BOUND_S
    )


def test_a_changed_key_reaches_the_other_gateway_at_once(calm: Fleet) -> None:
    made = calm.first.send(f"{BASE}/keys", {"alias": "narrowed"}).json()
    mine = {"authorization": f"Bearer {made['secret']}"}
    assert {line.chat("sim-small", headers=mine).status for line in calm.lines} == {200}
    body = {"settings": {"models": ["sim-large"]}}
    changed = calm.first.send(f"{BASE}/keys/{made['id']}", body, method="PATCH")
    assert changed.status == 200, changed.body
    calm.reaches_all(
        lambda line: line.chat("sim-small", headers=mine).status == 403, "it may less", BOUND_S
    )
    assert {line.chat("sim-large", headers=mine).status for line in calm.lines} == {200}


def test_an_experiment_begins_everywhere_at_once(calm: Fleet) -> None:
    variants = {"a": {"weight": 0.0}, "b": {"model": "sim-small"}}
    swap = {"variants": variants, "models": ["sim-nano"], "subject": ["request"]}
    made = calm.first.send(f"{BASE}/experiments", {"name": "swap", **swap})
    assert made.status == 201, made.body
    assigned = "swap=b"
    calm.reaches_all(
        lambda line: line.chat("sim-nano").headers.get("x-routeiq-experiment") == assigned,
        "the experiment runs",
        BOUND_S,
    )
    assert calm.last.send(f"{BASE}/experiments/swap", method="DELETE").status == 200
    calm.reaches_all(
        lambda line: "x-routeiq-experiment" not in line.chat("sim-nano").headers,
        "the experiment is gone",
        BOUND_S,
    )


def test_without_announcements_a_change_is_read(tmp_path: Path, sim: SimulatorProcess) -> None:
    """Redis is gone, PostgreSQL keeps the state: workers notice that they hear nothing and look themselves."""
    with fleet(configured(tmp_path, sim), gateways=2, workers=2) as made:
        assert made.redis is not None
        made.redis.stop()
        wait_until(
            lambda: not any(line.get("status")["hearing"] for line in made.lines),
            "all notice that they hear nothing",
        )
        assert {line.chat(content=EASY).status for line in made.lines} == {200}
        switched(made, made.first, "random")
        switched(made, made.last, "round-robin")
        made.redis.start()
        wait_until(
            lambda: all(line.get("status")["hearing"] for line in made.lines),
            "all hear again",
            15.0,
        )
        switched(made, made.first, "lowest-cost")


def test_a_change_in_a_gap_of_the_announcements_is_not_lost(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    """Redis dies at the very moment of the change: nobody had time to notice."""
    with fleet(configured(tmp_path, sim), gateways=2, workers=1) as made:
        assert made.redis is not None
        made.redis.kill()
        assert made.first.put(ACTIVE, {"name": "random"}).status == 200
        made.reaches_all(lambda line: strategy(line) == "random", "it is active", BOUND_S)
