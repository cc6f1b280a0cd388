"""Work that one worker does for all: who has it, and who goes on when that one is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import BASE, Fleet, Line, Stores, fleet
from tests.integration.helpers import catalogue, write
from tests.support.processes import SimulatorProcess, wait_until
from tests.support.redis import needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(120)]
ALIAS = "/llmrouter/config/sync/status"
JOB = "retention"
LEASE_S = 1.5


def configured(folder: Path, sim: SimulatorProcess, **state: float) -> Path:
    section = {"state": {"lease_s": LEASE_S, **state}}
    return write(folder, {"model_list": catalogue(sim.url), "routeiq": section})


def job(line: Line, name: str = JOB) -> dict[str, Any]:
    found: dict[str, Any] = line.get("sync")["jobs"][name]
    return found


def leaders(made: Fleet, name: str = JOB) -> list[Line]:
    return [line for line in made.lines if job(line, name)["is_leader"]]


@pytest.mark.parametrize("kind", ["redis", "postgres", "sqlite"])
def test_another_worker_goes_on_when_the_leader_is_killed(
    tmp_path: Path, sim: SimulatorProcess, kind: Stores
) -> None:
    with fleet(
        configured(tmp_path, sim), kind, gateways=1 if kind == "sqlite" else 2, workers=2
    ) as made:
        wait_until(lambda: len(leaders(made)) == 1, "one leads")
        (leader,) = leaders(made)
        names = set(job_names(made.first))
        assert names >= {JOB, "expired", "experiment-guards"}
        for name in names:
            assert len(leaders(made, name)) == 1  # each job has one, whoever it is
        wait_until(lambda: job(leader)["runs"] >= 1, "it has done the work")
        token = job(leader)["token"]
        assert 0.0 < job(leader)["lease_left_s"] <= LEASE_S
        others = [line for line in made.lines if line is not leader]
        wait_until(lambda: all(job(line)["skipped"] > 0 for line in others), "others ask in vain")
        assert {job(line)["runs"] for line in others} == {0}

        time.sleep(LEASE_S * 1.2)  # it is renewed: nobody else gets it meanwhile
        assert leaders(made) == [leader]

        os.kill(leader.pid, signal.SIGSTOP)  # the supervisor does not notice: no successor yet
        made.lines.remove(leader)
        leader.close()
        try:
            killed = time.monotonic()
            wait_until(lambda: len(leaders(made)) == 1, "another one leads", LEASE_S * 3)
            assert time.monotonic() - killed < LEASE_S * 3
            (successor,) = leaders(made)
            assert job(successor)["token"] > token
            wait_until(lambda: job(successor)["runs"] >= 1, "it does the work")
        finally:
            os.kill(leader.pid, signal.SIGKILL)


def job_names(line: Line) -> list[str]:
    return list(line.get("sync")["jobs"])


def test_an_orderly_end_hands_over_before_the_lease_ends(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with fleet(configured(tmp_path, sim, lease_s=9.0), gateways=2, workers=1) as made:
        first, last = made.lines
        wait_until(lambda: len(leaders(made)) == 1, "one leads")
        (leader,) = leaders(made)
        other = last if leader is first else first
        made.gateways[made.lines.index(leader)].terminate()
        made.lines.remove(leader)
        leader.close()
        wait_until(lambda: job(other)["is_leader"], "the other leads", 8.0)


def test_the_alias_says_the_same_and_both_need_permission(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with fleet(configured(tmp_path, sim), "sqlite", gateways=1, workers=1) as made:
        line = made.first
        wait_until(lambda: job(line)["is_leader"], "it leads alone")
        here, there = line.get("sync"), line.send(ALIAS).json()
        assert here.keys() == there.keys()
        for name in ("enabled", "running", "leader_election"):
            assert here[name] == there[name]
        assert here["enabled"] is False  # nothing is configured to be fetched
        expected = {"enabled", "is_leader", "holder_id", "lease_expires_at", "skipped_sync_count"}
        assert here["leader_election"].keys() >= expected
        body = {"alias": "nobody", "settings": {"permissions": ["status.read"]}}
        secret = line.send(f"{BASE}/keys", body).json()["secret"]
        mine = {"authorization": f"Bearer {secret}"}
        assert line.send(f"{BASE}/sync", headers=mine).status == 403
        assert line.send(ALIAS, headers=mine).status == 403
        assert line.send(ALIAS, headers={"authorization": "Bearer no"}).status == 401


def test_artifacts_are_fetched_by_one_process_of_a_host(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    source, models = tmp_path / "source", tmp_path / "models"
    source.mkdir()
    models.mkdir()
    env = {"ROUTEIQ_MODEL_S3_URI": str(source), "ROUTEIQ_MODELS_PATH": str(models)}
    env["ROUTEIQ_MODEL_SYNC_INTERVAL"] = "5"
    with fleet(configured(tmp_path, sim), "sqlite", gateways=1, workers=2, env=env) as made:
        answers = {line.pid: line.get("sync") for line in made.lines}
        assert all(answer["enabled"] and answer["running"] for answer in answers.values())
        wait_until(
            lambda: (
                sorted(line.get("sync")["leader_election"]["is_leader"] for line in made.lines)
                == [False, True]
            ),
            "one of two has the lock",
        )
