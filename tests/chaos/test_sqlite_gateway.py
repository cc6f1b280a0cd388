"""A gateway on SQLite: killed while it writes, on a full disk, and where it may not write at all."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import (
    AUTH,
    alive,
    ask,
    children,
    complaints,
    configure,
    error_code,
    make_key,
    place,
    readiness,
)
from tests.support.http import Answer, call
from tests.support.processes import (
    MASTER_KEY,
    Gateway,
    SimulatorProcess,
    free_port,
    start_gateway,
    wait_until,
)

pytestmark = pytest.mark.timeout(120)
WORKERS = 3
ROUNDS = 20
WHOLE_EVERY = 5
CLIENTS = 2
NANO = 1e9
FLUSH_S = 0.11
LEASED_S = 0.25
TOKEN_USD = 1e-6
PRICES: dict[str, Any] = {"input_cost_per_token": TOKEN_USD, "output_cost_per_token": TOKEN_USD}
BUDGET = {"usd": 1000.0, "per": "total"}


class Clients:
    """Threads that make keys and send requests whether or not anybody is there; they note what was answered."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self.acknowledged: list[str] = []
        self.costs: list[tuple[float, float]] = []
        self.odd: list[tuple[int, bytes]] = []
        """Neither an answer nor a lost connection."""
        self._stop = threading.Event()
        works = [self._make, *[self._ask] * CLIENTS]
        self._threads = [threading.Thread(target=self._loop, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def running(self) -> bool:
        return True

    def wait_used(self) -> None:
        """Until requests are answered."""
        done = len(self.costs)
        wait_until(lambda: len(self.costs) > done + 5, "requests are answered", 20.0)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60.0)

    def _loop(self, work: Callable[[int], None]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                work(number)
            except OSError:  # somebody was killed
                time.sleep(0.02)
            except Exception as error:  # an answer that was cut
                self.odd.append((0, repr(error).encode()))

    def _make(self, number: int) -> None:
        body = {"alias": f"made-{number}"}
        answer = call(f"{self.url}/routeiq/v1/keys", body, headers=AUTH, timeout=10.0)
        if answer.status == 201:
            self.acknowledged.append(answer.json()["id"])
        else:
            self.odd.append((answer.status, answer.body))

    def _ask(self, number: int) -> None:
        answer = ask(self, f"question {number}", key=self.key, timeout=10.0, max_tokens=8)
        if answer.status == 200:
            cost = float(answer.headers["x-routeiq-cost-usd"])
            self.costs.append((time.monotonic(), cost))
        else:
            self.odd.append((answer.status, answer.body))


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_dead(pids: list[int]) -> None:
    wait_until(lambda: not any(map(alive, pids)), "all are dead")


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path, timeout=10.0)) as connection:
        return [row[0] for row in connection.execute(sql)]


def check(path: Path, acknowledged: list[str]) -> None:
    assert rows(path, "PRAGMA integrity_check") == ["ok"]
    keys = rows(path, "SELECT id FROM routeiq_entities WHERE kind = 'key'")
    assert set(acknowledged) <= set(keys)
    # Nothing half written, what nobody was told about included.
    audited = rows(path, "SELECT target FROM routeiq_audit WHERE action = 'keys.create'")
    assert sorted(audited) == sorted(keys)


def spent(path: Path) -> float:
    (taken,) = rows(path, "SELECT taken FROM routeiq_limits WHERE kind = 'period'")
    return float(taken / NANO)


def test_workers_and_whole_gateways_are_killed(tmp_path: Path, sim: SimulatorProcess) -> None:
    """What a request may cost is reserved before it is sent. So a killed worker loses of its spending at most
    what the requests of its last flush cost more than was reserved for them: here, a token each. What it had
    reserved and not used, a quarter of a second's traffic and what was under way, stays spent.
    """
    path = tmp_path / "routeiq.db"
    places = [place("only", sim.url, "sim-small", **PRICES)]
    config = configure(tmp_path, sim, *places)
    port, rng = free_port(), random.Random(4)
    with ExitStack() as stack:

        def start() -> Gateway:
            env = {"DATABASE_URL": f"sqlite:///{path}"}
            return stack.enter_context(start_gateway(config, workers=WORKERS, port=port, env=env))

        gateway = start()
        key = make_key(gateway, "spender", budgets=[BUDGET])
        clients = Clients(gateway.url, key)
        stack.callback(clients.stop)
        for number in range(1, ROUNDS + 1):
            clients.wait_used()
            time.sleep(rng.uniform(0.0, 0.3))
            workers = children(gateway.pid)
            if number % WHOLE_EVERY:
                kill([rng.choice(workers)])
                continue
            family = [gateway.pid, *workers]  # the supervisor first: it starts nobody any more
            kill(family)
            assert gateway.wait(10.0) == -signal.SIGKILL
            wait_dead(workers)
            check(path, clients.acknowledged)
            gateway = start()
        clients.wait_used()
        clients.stop()
        gateway.terminate()
        assert gateway.wait(20.0) == 0
        check(path, clients.acknowledged)
        assert len(clients.acknowledged) > ROUNDS
        assert clients.odd == []
        times, costs = zip(*clients.costs, strict=True)
        busiest = max(sum(at <= one < at + 1.0 for one in times) for at in times)
        singles = ROUNDS - ROUNDS // WHOLE_EVERY
        deaths = singles + (ROUNDS - singles) * WORKERS
        lost = deaths * busiest * FLUSH_S * TOKEN_USD
        kept = deaths * (busiest * LEASED_S + CLIENTS) * max(costs)
        assert sum(costs) - lost <= spent(path) <= sum(costs) + kept


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def create(gateway: Gateway, alias: str) -> Answer:
    return call(f"{gateway.url}/routeiq/v1/keys", {"alias": alias}, headers=AUTH)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_stops_changes_not_requests(
    tmp_path: Path, sim: SimulatorProcess, small_disk: Path
) -> None:
    env = {"DATABASE_URL": f"sqlite:///{small_disk}/routeiq.db"}
    with start_gateway(configure(tmp_path, sim), workers=2, env=env) as gateway:
        limits = {"requests_per_minute": 100_000}
        key = make_key(gateway, "before", limits=limits, budgets=[BUDGET])
        assert ask(gateway, key=key).status == 200
        fill(small_disk)
        refused: list[Answer] = []
        for number in range(400):  # the file's own free pages are used up first
            answer = create(gateway, f"full-{number}")
            assert ask(gateway, key=key).status == 200
            if answer.status != 201:
                refused.append(answer)
            if len(refused) > 10:
                break
            fill(small_disk)
        assert len(refused) > 10
        for answer in refused:
            assert (answer.status, error_code(answer)) == (503, "state_unavailable"), answer.body
            assert float(answer.headers["retry-after"]) > 0
        assert readiness(gateway)[0] == 200
        for _ in range(20):
            assert ask(gateway, key=key).status == 200
        (small_disk / "filler").unlink()
        wait_until(lambda: all(create_new(gateway) for _ in range(8)), "keys can be made", 15.0)
        wait_until(lambda: readiness(gateway)[1] == "ready", "it is ready again", 15.0)
        assert [one for one in complaints(gateway) if "Traceback" in one] == []


def create_new(gateway: Gateway) -> bool:
    return create(gateway, f"after-{time.monotonic_ns()}").status == 201


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody may write, root included."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.getuid() != 0:
        yield folder
        return
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_default_folder_that_cannot_be_written_is_replaced(
    tmp_path: Path, sim: SimulatorProcess, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tmp_path, sim)
    monkeypatch.chdir(locked)
    with start_gateway(config, workers=2, env={"DATABASE_URL": ""}) as gateway:
        assert "warning" in gateway.log()
        assert f"{str(locked)!r} cannot be written" in gateway.log()
        assert "lost when this process ends" in gateway.log()
        wait_until(lambda: all(readiness(gateway)[1] == "ready" for _ in range(8)), "all are ready")
        key = make_key(gateway, "kept-for-now")
        for _ in range(8):  # both workers use the same file
            assert ask(gateway, key=key).status == 200
        assert list(locked.iterdir()) == []


@pytest.mark.parametrize("where", ["locked", "missing"])
def test_a_named_database_that_cannot_be_written_is_refused(
    tmp_path: Path, sim: SimulatorProcess, locked: Path, where: str
) -> None:
    folder = locked if where == "locked" else tmp_path / "missing"
    config = configure(tmp_path, sim)
    command = [sys.executable, "-m", "routeiq", "serve", "--config", str(config), "--port", "0"]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": f"sqlite:///{folder}/routeiq.db"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "DATABASE_URL" in done.stderr
    assert f"{folder}/routeiq.db" in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert MASTER_KEY not in done.stderr
