"""PostgreSQL for tests: an own database on the server that runs, or an own server to stop and kill."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.processes import free_port, wait_until

RUNNING = "postgresql://postgres@127.0.0.1:5432/postgres"
BINARIES = Path("/usr/lib/postgresql/15/bin")
_numbers = itertools.count()


@contextlib.contextmanager
def own_database(server: str = RUNNING) -> Iterator[str]:
    """The URL of a new, empty database, dropped afterwards. Skips the test where no server runs."""
    name = f"routeiq_test_{os.getpid()}_{next(_numbers)}"
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at 127.0.0.1:5432: {error}")
    with connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class PostgresServer:
    """A server on a free port, with its data in a temporary folder; without fsync, to be quick."""

    def __init__(self) -> None:
        if not (BINARIES / "initdb").exists():
            pytest.skip(f"the binaries of PostgreSQL are not in {BINARIES}")
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else None  # it refuses root
        self._folder = tempfile.mkdtemp(prefix="routeiq-postgres-")
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def data(self) -> str:
        return f"{self._folder}/data"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                str(BINARIES / "postgres"),
                *("-D", self.data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self._folder),
                *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._identity(),  # type: ignore[call-overload]
        )
        wait_until(self._answers, "PostgreSQL answers", 30.0)

    def stop(self) -> None:
        """A fast shutdown: connections are cut, transactions rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """No goodbye (SIGQUIT: its children go too, as after a crash of the machine)."""
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """Connections stay open, nobody answers."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.thaw()
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pids(self) -> list[int]:
        if self._process is None:
            return []
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30.0)
            self._process = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(BINARIES / program), "-D", self.data, *arguments],
            check=True,
            capture_output=True,
            **self._identity(),  # type: ignore[call-overload]
        )

    def _identity(self) -> dict[str, object]:
        if self._user is None:
            return {"cwd": self._folder}
        return {
            "user": self._user.pw_uid,
            "group": self._user.pw_gid,
            "extra_groups": [],
            "cwd": self._folder,
        }


@contextlib.contextmanager
def own_server() -> Iterator[PostgresServer]:
    """An own server, ended afterwards."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()
