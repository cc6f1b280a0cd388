"""SQLite under `kill -9`: the file always opens, and what was acknowledged is there, whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

KILLS = 200
CHECK_EVERY = 20
LONGEST_S = 0.04
ROOT = Path(__file__).parents[2]


class Writers:
    """Forks one writing child after the other, and remembers what they were told is written."""

    def __init__(self, path: Path) -> None:
        self.keys: list[str] = []
        self.budget = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sqlite_writer", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    def kill_one(self, after_s: float, *, once_written: bool) -> int:
        """Start a child and kill it some time after its start or its first change; its changes."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        acknowledged, pid = 0, None
        for line in self._lines():
            word, _, rest = line.partition(" ")
            if word == "pid":
                pid = int(rest)
            elif word == "budget":
                self.budget = int(rest)
                acknowledged += 1
            else:
                self.keys.append(line)
                acknowledged += 1
            if pid is not None and (acknowledged or not once_written):
                time.sleep(after_s)
                os.kill(pid, signal.SIGKILL)
                pid = None
        return acknowledged

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._process.stdout.close()

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "dead\n":
                return
            yield line.rstrip("\n")
        raise AssertionError("the process that forks has ended")


def check(path: Path, writers: Writers) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        keys = {row[0] for row in connection.execute("SELECT id FROM routeiq_entities")}
        audited = connection.execute(
            "SELECT target FROM routeiq_audit WHERE action = 'keys.create'"
        ).fetchall()
        budgets = connection.execute(
            "SELECT count(*) FROM routeiq_audit WHERE action = 'budget'"
        ).fetchone()[0]
        budget = connection.execute(
            "SELECT coalesce(max(version), 0) FROM routeiq_documents"
        ).fetchone()[0]
        generations = dict(connection.execute("SELECT name, value FROM routeiq_generations"))
    assert set(writers.keys) <= keys
    assert writers.budget <= budget
    # Nothing half written, what nobody was told about included.
    assert sorted(row[0] for row in audited) == sorted(keys)
    assert budgets == budget
    assert generations == {"keys": len(keys), "control": budget}


@pytest.mark.timeout(120)
def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "routeiq.db"
    rng = random.Random(4)
    writers = Writers(path)
    while_writing = 0
    for number in range(1, KILLS + 1):
        after_s = rng.uniform(0.0, LONGEST_S)
        while_writing += writers.kill_one(after_s, once_written=number % 2 == 0) > 0
        if number % CHECK_EVERY == 0:
            check(path, writers)
    writers.close()
    assert while_writing >= KILLS // 2  # the others may have been killed while they opened the file
    assert len(writers.keys) >= while_writing
