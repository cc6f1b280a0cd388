"""Starting, pausing and stopping the processes under test."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from . import kernel

# What a process gets of our environment; everything else would be a hidden input of the measurement.
_PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
ROOT = Path(__file__).resolve().parent.parent


class LaunchError(RuntimeError):
    """A process did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP/1.1 POST, ready to be sent by any generator."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def wire(self) -> bytes:
        """The bytes of the request."""
        parts = urlsplit(self.url)
        lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(slots=True, kw_only=True)
class Process:
    """A started process, alone in its process group."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self.popen.pid

    def signal(self, number: int) -> None:
        """Signal the whole group."""
        if self.popen.poll() is None:
            os.killpg(self.pid, number)

    def stop(self, timeout_s: float = 15.0) -> None:
        """End it: politely, then not."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Lab:
    """Owns a folder for configurations and logs, and every process started; ends them all."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="routeiq-bench-")
        self.path = Path(self._folder.name)
        self.processes: list[Process] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self.processes):
            process.stop()
        self._folder.cleanup()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cpus: Sequence[int] | None = None,
    ) -> Process:
        """Start a process; its output goes to a file."""
        log = self.path / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**passed_on(), **(env or {})},
                cwd=self.path,
                start_new_session=True,
                preexec_fn=None if cpus is None else lambda: kernel.pin(cpus),
            )
        process = Process(name=name, popen=popen, log=log)
        self.processes.append(process)
        return process

    def end(self, process: Process) -> None:
        """Stop one before the others."""
        process.stop()
        self.processes.remove(process)

    @contextmanager
    def only(self, *wanted: Process) -> Iterator[None]:
        """Freeze every other process, so that an idle one costs the measured one nothing."""
        others = [one for one in self.processes if one not in wanted]
        for one in others:
            one.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for one in others:
                one.signal(signal.SIGCONT)


def passed_on() -> dict[str, str]:
    """The part of our environment that the processes get."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def free_port() -> int:
    """A loopback port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def routeiq(*arguments: str) -> list[str]:
    """The command line of the product, as installed beside this Python."""
    script = Path(sys.executable).with_name("routeiq")
    if script.exists():
        return [str(script), *arguments]
    return [sys.executable, "-c", "from routeiq.cli import main; main()", *arguments]


def ask(request: Request, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Send a request on a connection of its own; status and body.

    Raises:
        OSError, http.client.HTTPException: no answer.
    """
    connection = http.client.HTTPConnection(*request.address, timeout=timeout_s)
    try:
        connection.request("POST", urlsplit(request.url).path, request.body, dict(request.headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_answer(process: Process, request: Request, *, timeout_s: float = 120.0) -> float:
    """Ask until the answer is 200; the seconds that took.

    Raises:
        LaunchError: the process ended, or time ran out.
    """
    began = time.monotonic()
    said: object = "nothing"
    while time.monotonic() - began < timeout_s:
        if process.popen.poll() is not None:
            break
        try:
            status, body = ask(request)
        except (OSError, http.client.HTTPException) as error:
            said = error
        else:
            if status == 200:
                return time.monotonic() - began
            said = f"{status} {body[:300]!r}"
        time.sleep(0.005)
    code = process.popen.poll()
    how = f"did not answer within {timeout_s:g} s" if code is None else f"ended with code {code}"
    raise LaunchError(f"{process.name} {how} (last: {said}). End of its log:\n{process.tail()}")
