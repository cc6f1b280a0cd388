"""stdout that nobody reads, that is closed, or on a full disk: a log must never stop the gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.tools import AUTH, CHAT, chat_body, configure
from tests.support.http import call
from tests.support.processes import KEPT_VARIABLES, SimulatorProcess, free_port, wait_until

pytestmark = pytest.mark.timeout(60)


class Process:
    """`routeiq serve` with a stdout of the test's choice; stderr goes to a file."""

    def __init__(self, folder: Path, config: Path, stdout: int, workers: int) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.errors = folder / "stderr.txt"
        command = [sys.executable, "-m", "routeiq", "serve", "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdout=stdout,
                stderr=stderr,
                env={
                    **env,
                    "ROUTEIQ_CB_FAILURE_THRESHOLD": "1",
                    "DATABASE_URL": f"sqlite:///{folder}/routeiq.db",
                },
            )
        wait_until(self.ready, "the gateway is ready", 30.0)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.errors.read_text()
        try:
            return call(self.url + "/_health/ready", timeout=5.0).status == 200
        except OSError:
            return False

    def ask(self, text: str = "hello") -> int:
        return call(self.url + CHAT, chat_body(text), headers=AUTH, timeout=5.0).status


@contextmanager
def running(folder: Path, config: Path, stdout: int, workers: int) -> Iterator[Process]:
    started = Process(folder, config, stdout, workers)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["full disk", "reader gone"])
def test_a_stdout_that_cannot_be_written_to(
    tmp_path: Path, sim: SimulatorProcess, kind: str, workers: int
) -> None:
    if kind == "full disk":
        stdout = os.open("/dev/full", os.O_WRONLY)
        reader = None
    else:
        reader, stdout = os.pipe()
    config = configure(tmp_path, sim)
    try:
        with running(tmp_path, config, stdout, workers) as gateway:
            assert gateway.ask() == 200
            if reader is not None:
                os.close(reader)
            for _ in range(10):
                assert gateway.ask() == 200
            sim.behave("status=500", "sim-small")  # breakers write log lines from the event loop
            for _ in range(5):
                assert gateway.ask() == 200
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(15.0) == 0, gateway.errors.read_text()
    finally:
        os.close(stdout)


def test_a_reader_of_stdout_that_is_stuck(tmp_path: Path, sim: SimulatorProcess) -> None:
    reader, stdout = os.pipe()
    config = configure(tmp_path, sim)
    try:
        with running(tmp_path, config, stdout, 1) as gateway:
            for number in range(150):  # more than a pipe holds
                assert gateway.ask(f"{number}") == 200
            sim.behave("status=500", "sim-small")
            for _ in range(5):
                assert gateway.ask() == 200
            assert call(gateway.url + "/_health/ready", timeout=5.0).status == 200
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(15.0) == 0, gateway.errors.read_text()
    finally:
        os.close(stdout)
        os.close(reader)
