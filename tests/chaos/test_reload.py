"""Reloads in quick succession, under load: no request is lost, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import Load, admin, complaints, configure, pair, place, rss_mb
from tests.integration.fleet import BASE, Line, fleet
from tests.support.processes import SimulatorProcess, start_gateway, wait_until

pytestmark = pytest.mark.timeout(120)
EVERY_S = {"signal": 0.2, "watch": 0.7}
"""A file is read once it has been left alone for a moment."""
LASTS_S = 4.0
MANY = 50
WARM = 12
MORE_MB = 12.0
"""Slack of the allocator over 50 reloads; a runtime that stays is about one MB."""


def variant(folder: Path, sim: SimulatorProcess, number: int) -> None:
    """Another configuration in place at once: deployments come and go, `pair` stays."""
    beside = folder / "beside"
    beside.mkdir(exist_ok=True)
    extra = place(f"extra-{number % 3}", sim.url, "sim-nano", group="extra")
    weights = {"weight": 1 + number % 2}
    path = configure(
        beside,
        sim,
        *pair(sim.url, **weights),
        extra,
        routeiq={"profiles": {f"p{number % 5}": {"cost_weight": 1.0 + number}}},
    )
    os.replace(path, folder / "config.yaml")


@pytest.mark.parametrize(("way", "stream"), [("signal", False), ("signal", True), ("watch", True)])
def test_no_request_is_lost_while_it_reloads_again_and_again(
    tmp_path: Path, sim: SimulatorProcess, way: str, stream: bool
) -> None:
    variant(tmp_path, sim, 0)
    env = {"ROUTEIQ_HOT_RELOAD": str(way == "watch").lower(), "ROUTEIQ_RELOAD_INTERVAL": "0.1"}
    sim.behave("chunks=10;chunk_ms=20" if stream else "delay_ms=20")
    with start_gateway(tmp_path / "config.yaml", workers=2, env=env) as gateway:
        load = Load(gateway, clients=6, fresh=False, stream=stream)
        begun, number = time.monotonic(), 0
        while time.monotonic() - begun < LASTS_S:
            number += 1
            variant(tmp_path, sim, number)
            if way == "signal":
                gateway.signal(signal.SIGHUP)
            time.sleep(EVERY_S[way])
        load.stop()
        done = admin(gateway, "status")["reload"]
        assert done["failures"] == 0
        assert done["reloads"] >= (number // 3 if way == "signal" else 2)
        assert not [outcome for outcome in load.outcomes.values() if outcome[0] != "ok"]
        assert load.count("ok") > 20
        assert not complaints(gateway)


def test_many_reloads_leave_nothing_behind(tmp_path: Path, sim: SimulatorProcess) -> None:
    variant(tmp_path, sim, 0)
    source, models = tmp_path / "source", tmp_path / "models"
    source.mkdir()
    models.mkdir()
    # Each runtime has a thread that fetches artifacts, and a connection to the provider.
    env = {"ROUTEIQ_MODEL_S3_URI": str(source), "ROUTEIQ_MODELS_PATH": str(models)}
    with fleet(tmp_path / "config.yaml", "sqlite", gateways=1, workers=1, env=env) as made:
        line = made.first
        reload_often(line, tmp_path, sim, WARM)
        files, memory, threads = files_of(line.pid), rss_mb(line.pid), threads_of(line.pid)
        reload_often(line, tmp_path, sim, MANY)
        assert line.get("status")["reload"]["reloads"] == WARM + MANY
        wait_until(lambda: files_of(line.pid) <= files + 2, "files are closed", 5.0)
        wait_until(lambda: threads_of(line.pid) <= threads + 2, "threads have ended", 5.0)
        assert rss_mb(line.pid) - memory < MORE_MB
        assert not complaints(made.gateways[0])


def test_streams_under_way_keep_their_generation_and_no_longer(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    """Each reload finds a request under way: old runtimes are closed when their last request has left."""
    variant(tmp_path, sim, 0)
    with fleet(tmp_path / "config.yaml", "sqlite", gateways=1, workers=1) as made:
        line = made.first
        reload_often(line, tmp_path, sim, 3)
        files = files_of(line.pid)
        sim.behave("chunks=8;chunk_ms=50")
        load = Load(made.gateways[0], clients=4, fresh=True, stream=True)
        reload_often(line, tmp_path, sim, 12)
        load.stop()
        assert not [outcome for outcome in load.outcomes.values() if outcome[0] != "ok"]
        wait_until(lambda: files_of(line.pid) <= files + 6, "old connections are closed", 5.0)


def reload_often(line: Line, folder: Path, sim: SimulatorProcess, count: int) -> None:
    """Each with other contents, and with requests that open connections to the provider."""
    for number in range(count):
        variant(folder, sim, number)
        answer: Any = line.send(f"{BASE}/config/reload", {})
        assert answer.status == 200, answer.body
        assert line.chat("pair").status == 200


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
