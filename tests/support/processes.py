"""The simulator and the gateway as real processes, on free ports, with a clean environment."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.http import call

MASTER_KEY = "sk-master"
START_TIMEOUT_S = 30.0
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")


def free_port() -> int:
    """A port of the loopback address that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Poll `condition`; fail the test, saying `what` did not happen, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)


class RunningProcess:
    """A `routeiq` sub-command in the background. Both its outputs go to `log()`."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        # A database of its own: the default is a file in the working directory, which all tests share.
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        clean = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        clean["DATABASE_URL"] = f"sqlite:///{self._folder.name}/routeiq.db"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "routeiq", *arguments],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**clean, **(env or {})},
        )
        self.pid = self._process.pid
        self.url = ""

    def log(self) -> str:
        """Everything that was printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 40.0) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """End it, by force where it does not go."""
        if self.running():
            self.terminate()
            try:
                self.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()
        self._folder.cleanup()

    def wait_ready(self, ready: Callable[[], bool]) -> None:
        """Until `ready`; fails with the log where the process ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            if not self.running() or time.monotonic() > deadline:
                raise AssertionError(f"{self._process.args!r} did not get ready:\n{self.log()}")
            time.sleep(0.02)


class SimulatorProcess(RunningProcess):
    """`routeiq simulate`, steered over its own HTTP routes."""

    def behave(self, behaviour: str, model: str = "*") -> None:
        """Steer every request for models that match the glob, until `mend` or `reset`."""
        body = {"behaviour": behaviour, "model": model}
        answer = call(f"{self.url}/_simulator/behaviour", body)
        assert answer.status == 200, answer.body

    def mend(self, model: str | None = None) -> None:
        body = None if model is None else {"model": model}
        call(f"{self.url}/_simulator/behaviour", body, method="DELETE")

    def requests(self) -> list[dict[str, Any]]:
        """What it received since the last reset, oldest first."""
        found: list[dict[str, Any]] = call(f"{self.url}/_simulator/requests").json()
        return found

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = call(f"{self.url}/_simulator/stats").json()
        return found

    def reset(self) -> None:
        """Forget behaviours, counters and requests."""
        call(f"{self.url}/_simulator/state", method="DELETE")

    def _announced(self) -> bool:
        _, found, rest = self.log().partition("simulator listening on ")
        self.url = rest.split("\n")[0] if found and "\n" in rest else ""
        return bool(self.url)


class Gateway(RunningProcess):
    """`routeiq serve`."""

    def ready(self) -> bool:
        """Whether it says that it takes requests."""
        try:
            return call(f"{self.url}/_health/ready", timeout=5.0).status == 200
        except OSError:
            return False


@contextlib.contextmanager
def start_simulator(*arguments: str) -> Iterator[SimulatorProcess]:
    """`routeiq simulate`, ready; ended with the block."""
    process = SimulatorProcess(("simulate", *arguments))
    with contextlib.closing(process):
        process.wait_ready(process._announced)
        yield process


@contextlib.contextmanager
def start_gateway(
    config: Path | None,
    *arguments: str,
    workers: int = 1,
    port: int = 0,
    env: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """`routeiq serve` on a loopback port, ready; ended with the block."""
    port = port or free_port()
    command = ["serve", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    command += [] if config is None else ["--config", str(config)]
    gateway = Gateway((*command, *arguments), env)
    gateway.url = f"http://127.0.0.1:{port}"
    with contextlib.closing(gateway):
        gateway.wait_ready(gateway.ready)
        yield gateway


def deployment(group: str, sim_url: str, model: str = "sim-small", **params: Any) -> dict[str, Any]:
    """An entry of `model_list` that calls the simulator; `model` may carry `#behaviour`."""
    base = {"model": f"openai/{model}", "api_base": f"{sim_url}/v1", "api_key": "sk-sim"}
    return {"model_name": group, "litellm_params": {**base, **params}}


def write_config(
    folder: Path,
    sim_url: str,
    models: Sequence[str] | Mapping[str, str] = ("sim-small",),
    *,
    model_list: Sequence[Mapping[str, Any]] = (),
    **sections: Any,
) -> Path:
    """A config.yaml in `folder`: `models` are simulated models, or groups mapped to them.

    `model_list` adds whole entries (see `deployment`); `sections` are further top-level sections, such
    as `router_settings={...}`. The master key is `MASTER_KEY`.
    """
    groups = models if isinstance(models, Mapping) else {name: name for name in models}
    entries = [deployment(group, sim_url, model) for group, model in groups.items()]
    general = {"master_key": MASTER_KEY, **sections.pop("general_settings", {})}
    document = {
        "model_list": [*entries, *map(dict, model_list)],
        "general_settings": general,
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
