from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from routeiq.exceptions import ConfigError
from routeiq.gateway import supervisor
from routeiq.gateway.supervisor import Supervisor, bind, default_workers
from routeiq.gateway.worker import WorkerOptions
from routeiq.telemetry.output import Output
from tests.support.upstreams import Rig


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", None), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", None)],
)
def test_the_containers_cpu_quota(tmp_path: Path, quota: str, cores: int | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert supervisor._cgroup_cores(str(file)) == cores
    assert supervisor._cgroup_cores(str(tmp_path / "missing")) is None


def test_there_is_at_least_one_worker() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


def test_all_sockets_have_the_same_port() -> None:
    sockets = bind("127.0.0.1", 0, 3)
    try:
        assert len({sock.getsockname() for sock in sockets}) == 1
        assert sockets[0].getsockname()[1] != 0
    finally:
        for sock in sockets:
            sock.close()


def test_an_address_that_is_taken_is_told_with_a_fix() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="--port") as raised,
    ):
        bind("127.0.0.1", taken.getsockname()[1], 2)
    assert "cannot listen there" in str(raised.value)


class Clock:
    """Stands in for the `time` module."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


OPTIONS = WorkerOptions(output=Output())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", clock)
    return clock


def test_quick_deaths_wait_longer_and_longer_and_a_healthy_life_forgives(clock: Clock) -> None:
    sockets = bind("127.0.0.1", 0, 2)
    parent = Supervisor(Rig({}, {"one": ("only",)}).runtime.config, sockets, OPTIONS)
    pauses = []
    for _ in range(9):
        parent._born[0] = clock.now
        clock.now += 1.0
        parent._schedule(0, 1)
        pauses.append(round(parent._due[0] - clock.now, 6))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert [sock.fileno() < 0 for sock in sockets] == [True, False]
    sockets[1].close()
    parent._born[0] = clock.now
    clock.now += supervisor.HEALTHY_S + 1
    parent._schedule(0, 1)
    assert parent._due[0] - clock.now == pytest.approx(0.1)


def test_a_worker_that_does_not_end_is_killed_after_the_drain_timeout(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Rig({}, {"one": ("only",)}).runtime.config
    listener = socket.socket()
    parent = Supervisor(config, [listener], OPTIONS)
    sent: list[tuple[int, int]] = []

    def fork(index: int) -> None:
        parent._pids[4711] = index
        parent._stop(signal.SIGTERM, None)

    def kill(pid: int, number: int) -> None:
        sent.append((pid, number))

    def waitpid(pid: int, flags: int) -> tuple[int, int]:
        return (pid, signal.SIGKILL) if (4711, signal.SIGKILL) in sent else (0, 0)

    monkeypatch.setattr(parent, "_fork", fork)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(os, "waitpid", waitpid)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    begun = clock.now
    assert parent.run() == 1
    assert sent[0] == (4711, signal.SIGTERM)
    assert (4711, signal.SIGKILL) in sent
    limit = config.settings.drain_timeout_seconds + supervisor.KILL_MARGIN_S
    assert clock.now - begun == pytest.approx(limit, abs=0.2)
    assert listener.fileno() == -1, (
        "the queue of a worker that has ended must not collect connections"
    )
