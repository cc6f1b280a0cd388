"""Breakers by hand and across gateways: what one worker is told or learns, all heed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import calls_to, configure, pair
from tests.integration.fleet import BASE, Fleet, Line, Stores, fleet
from tests.integration.helpers import assert_error
from tests.support.http import Answer
from tests.support.processes import SimulatorProcess, start_gateway, wait_until
from tests.support.redis import needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(120)]

OPEN_S = 1
QUICK = {
    "ROUTEIQ_CB_FAILURE_THRESHOLD": "1",
    "ROUTEIQ_CB_TIMEOUT_SECONDS": str(OPEN_S),
}
SLOW = {"ROUTEIQ_CB_FAILURE_THRESHOLD": "1", "ROUTEIQ_CB_TIMEOUT_SECONDS": "600"}
EAGER = {"retry_budget": 1.0}
NEVER = {"state": {"reread_s": 600.0}}
"""Nothing is read again by itself: what arrives was announced."""


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    """Two of two workers in front of `first` and `second`; the latter answers where the former may not."""
    path = configure(
        tmp_path_factory.mktemp("breakers"), simulator, routeiq=NEVER, resilience=EAGER
    )
    with fleet(path, workers=2, env=SLOW) as made:
        yield made


@pytest.fixture
def calm(gateways: Fleet, sim: SimulatorProcess) -> Iterator[Fleet]:
    """Nothing overridden and all closed, before and after."""
    yield gateways
    sim.mend()
    for id in ("first", "second"):
        override(gateways.first, id, "closed")
    gateways.reaches_all(
        lambda line: {state(line, "first"), state(line, "second")} == {"closed"}, "closed again"
    )
    for id in ("first", "second"):
        override(gateways.first, id, None)


def override(line: Line, id: str, word: str | None, **headers: str) -> Answer:
    return line.put(f"breakers/{id}", {"override": word}, **headers)


def state(line: Line, id: str) -> str:
    found = {one["deployment"]: one["breaker"] for one in line.get("models")["data"]}
    shown: str = found[id]
    return shown


def answered(line: Line) -> str:
    answer = line.chat("pair")
    assert answer.status == 200, answer.body
    return answer.headers["x-routeiq-deployment"]


def test_a_drained_deployment_gets_no_calls_from_any_worker(
    calm: Fleet, sim: SimulatorProcess
) -> None:
    assert {answered(line) for line in calm.lines} == {"first"}
    told = override(calm.first, "first", "drain")
    assert told.status == 200, told.body
    assert told.json()["override"] == "drain"
    calm.reaches_all(lambda line: answered(line) == "second", "it is drained")
    sim.reset()
    for line in calm.lines * 3:
        assert line.chat("pair").headers["x-routeiq-deployment"] == "second"
    assert (calls_to(sim, "sim-small"), calls_to(sim, "sim-large")) == (0, 12)
    for line in calm.lines:
        assert state(line, "first") == "drained"
        shown = line.get("breakers")
        assert (shown["data"], shown["overrides"]) == ({"first": "drained"}, {"first": "drain"})
    assert override(calm.last, "first", None).status == 200
    calm.reaches_all(lambda line: answered(line) == "first", "it is back")
    assert {state(line, "first") for line in calm.lines} == {"closed"}
    assert calm.first.get("breakers")["overrides"] == {}


def test_when_all_are_drained_the_client_is_told_so(calm: Fleet, sim: SimulatorProcess) -> None:
    assert override(calm.first, "first", "drain").status == 200
    assert override(calm.last, "second", "drain").status == 200
    calm.reaches_all(lambda line: line.chat("pair").status == 503, "nobody is left")
    sim.reset()
    answer = calm.last.chat("pair")
    assert_error(answer, 503, "no_healthy_deployment")
    assert int(answer.headers["retry-after"]) >= 1
    assert not sim.requests()


def test_one_that_is_kept_closed_is_asked_though_it_fails(
    calm: Fleet, sim: SimulatorProcess
) -> None:
    assert override(calm.first, "first", "closed").status == 200
    wait_until(calm.agreed, "all have it")
    sim.behave("status=500", "sim-small")
    for line in calm.lines * 2:
        assert line.chat("pair").headers["x-routeiq-attempts"] != "1"
    assert calls_to(sim, "sim-small") >= len(calm.lines) * 2
    assert {state(line, "first") for line in calm.lines} == {"closed"}
    assert override(calm.last, "first", None).status == 200
    wait_until(calm.agreed, "all have it")
    assert calm.first.chat("pair").headers["x-routeiq-attempts"] == "2"
    assert calm.first.chat("pair").headers["x-routeiq-attempts"] == "1"  # it is open by now


def test_one_that_is_open_is_forced_closed_everywhere(calm: Fleet, sim: SimulatorProcess) -> None:
    sim.behave("status=500", "sim-small")
    assert answered(calm.first) == "second"
    calm.reaches_all(lambda line: state(line, "first") == "open", "all know that it is open")
    sim.mend()
    assert override(calm.last, "first", "closed").status == 200
    calm.reaches_all(lambda line: answered(line) == "first", "it is asked again")


def test_what_makes_no_sense_is_refused(calm: Fleet) -> None:
    line = calm.first
    before = line.get("breakers")
    assert_error(override(line, "third", "drain"), 404, says="third")
    assert_error(override(line, "first", "open"), 400, param="override")
    assert_error(line.put("breakers/first", {}), 400, param="override")
    stale = {"if-match": f'"{before["version"] + 7}"'}
    assert_error(override(line, "first", "drain", **stale), 412)
    assert line.get("breakers") == before
    seen = {"if-match": f'"{before["version"]}"'}
    assert override(line, "first", "drain", **seen).status == 200
    assert_error(override(calm.last, "first", None, **seen), 412)


def test_it_needs_permission_and_is_on_record(calm: Fleet) -> None:
    def tries(*permissions: str) -> tuple[int, int]:
        body = {"alias": f"b {permissions}", "settings": {"permissions": list(permissions)}}
        secret = calm.first.send(f"{BASE}/keys", body).json()["secret"]
        headers = {"authorization": f"Bearer {secret}"}
        path = f"{BASE}/breakers"
        word = {"override": "drain"}
        written = calm.last.send(f"{path}/second", word, method="PUT", headers=headers)
        return (calm.last.send(path, headers=headers).status, written.status)

    assert tries("strategies.*") == (403, 403)
    assert tries("breakers.read") == (200, 403)
    assert tries("breakers.*") == (200, 200)
    row = calm.first.get("audit?limit=1")["data"][0]
    assert (row["action"], row["target"]) == ("breakers.override", "second")
    assert "breakers.*" in row["actor"]


def test_two_changes_at_once_are_both_kept(calm: Fleet) -> None:
    """Each writes the whole document: one that was overtaken must not undo the other's."""

    def drain(work: tuple[Line, str]) -> int:
        line, id = work
        while (status := override(line, id, "drain").status) == 409:
            pass
        return status

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(drain, [(calm.first, "first"), (calm.last, "second")])) == [200, 200]
    assert calm.first.get("breakers")["overrides"] == {"first": "drain", "second": "drain"}


def test_what_one_worker_learns_protects_the_other_gateway(
    calm: Fleet, sim: SimulatorProcess
) -> None:
    sim.behave("status=500", "sim-small")
    assert answered(calm.first) == "second"
    calm.reaches_all(lambda line: state(line, "first") == "open", "all know")
    assert calls_to(sim, "sim-small") == 1
    for line in calm.lines * 3:
        assert (answered(line), line.chat("pair").headers["x-routeiq-attempts"]) == ("second", "1")
    assert calls_to(sim, "sim-small") == 1


@pytest.mark.parametrize("kind", ["redis", "postgres", "sqlite"])
def test_one_probe_serves_the_fleet(tmp_path: Path, sim: SimulatorProcess, kind: Stores) -> None:
    """All workers want it back at once, under load: the provider sees one probe a pause."""
    path = configure(tmp_path, sim, *pair(sim.url))
    count = 1 if kind == "sqlite" else 2
    with fleet(path, kind, gateways=count, workers=2, env=QUICK) as made:
        sim.behave("status=500", "sim-small")
        assert answered(made.first) == "second"
        made.reaches_all(lambda line: state(line, "first") != "closed", "all know")
        seen = loaded(made, lambda: calls_to(sim, "sim-small") >= 3)
        assert set(seen) == {"second"}  # no client noticed the probes
        times = [one["time"] for one in sim.requests() if one["json"]["model"] == "sim-small"]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps) > OPEN_S * 0.6
        sim.mend()
        wait_until(lambda: "first" in {answered(line) for line in made.lines}, "it is back", 20.0)
        made.reaches_all(lambda line: answered(line) == "first", "all use it", 5.0)


def loaded(made: Fleet, done: Any) -> list[str]:
    """Who answered, with every worker under load until `done`."""
    answers: list[str] = []

    def run(line: Line) -> None:
        while not finished:
            answers.append(answered(line))

    finished: list[bool] = []
    with ThreadPoolExecutor(len(made.lines)) as pool:
        runs = [pool.submit(run, line) for line in made.lines]
        try:
            wait_until(done, "it was probed twice", 20.0)
        finally:
            finished.append(True)
        for one in runs:
            one.result()
    return answers


def test_a_drained_one_stays_so_over_a_restart(tmp_path: Path, sim: SimulatorProcess) -> None:
    path = configure(tmp_path, sim)
    env = {"DATABASE_URL": f"sqlite:///{tmp_path}/kept.db"}
    for expected in ("first", "second"):
        with start_gateway(path, env=env) as gateway:
            line = Line(gateway)
            assert answered(line) == expected
            assert override(line, "first", "drain").status == 200
            line.close()
