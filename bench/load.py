"""Putting load on a target: with wrk where it is installed, else with our own generator."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from . import kernel
from .gateways import Scenario, Target
from .launch import ROOT

LINGER_S, SLOW_LINGER_S = 10.0, 120.0
"""How long our own generator waits at the end for requests under way."""


class LoadError(RuntimeError):
    """The generator failed, or got no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run with a fixed number of connections saw."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Generator:
    """`kind` is `wrk` or `python`. Both run as a process of their own on `cpus`."""

    def __init__(self, folder: Path, cpus: Sequence[int], kind: str | None = None) -> None:
        self.kind = kind or ("wrk" if shutil.which("wrk") else "python")
        self._folder = folder
        self._cpus = cpus

    def closed(
        self, target: Target, scenario: Scenario, *, connections: int, seconds: float
    ) -> Load:
        """N connections, each sends its next request when the last is answered."""
        if self.kind == "wrk" and not target.slow:
            return self._wrk(target, scenario, connections, seconds)
        linger_s = SLOW_LINGER_S if target.slow else LINGER_S
        answer = self._own("closed", [target], scenario, connections, seconds, linger_s=linger_s)
        return Load(**{name: answer[name] for name in Load.__dataclass_fields__})

    def paced(
        self,
        targets: Sequence[Target],
        scenario: Scenario,
        *,
        streams: bool = False,
        rate: float,
        seconds: float,
        connections: int = 16,
    ) -> list[dict[str, Any]]:
        """`rate` requests a second to each target, in turn; always by our own generator."""
        mode = "streams" if streams else "open"
        found: list[dict[str, Any]] = self._own(
            mode, targets, scenario, connections, seconds, rate=rate
        )
        return found

    def _own(
        self,
        mode: str,
        targets: Sequence[Target],
        scenario: Scenario,
        connections: int,
        seconds: float,
        **more: float,
    ) -> Any:
        requests = [target.request(scenario) for target in targets]
        job = {
            "mode": mode,
            "targets": [
                {"host": one.address[0], "port": one.address[1], "wire": one.wire().decode()}
                for one in requests
            ],
            "connections": connections,
            "seconds": seconds,
            **more,
        }
        argv = [sys.executable, "-m", "bench.loadgen"]
        return orjson.loads(self._run(argv, orjson.dumps(job), ROOT))

    def _wrk(self, target: Target, scenario: Scenario, connections: int, seconds: float) -> Load:
        request = target.request(scenario)
        script = self._folder / f"{target.name}-{scenario.name}.lua"
        lines = ['wrk.method = "POST"', f"wrk.body = {lua(request.body.decode())}"]
        lines += [f"wrk.headers[{lua(k)}] = {lua(v)}" for k, v in request.headers.items()]
        script.write_text("\n".join([*lines, _DONE]))
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(seconds, 1):.0f}s", "--timeout", "30s"]
        return parse_wrk(self._run([*argv, "-s", str(script), request.url], b"", self._folder))

    def _run(self, argv: Sequence[str], stdin: bytes, cwd: Path) -> bytes:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            cwd=cwd,
            check=False,
            preexec_fn=lambda: kernel.pin(self._cpus),
        )
        if done.returncode:
            raise LoadError(f"{argv[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout


# wrk's own table rounds; this prints microseconds and counts as they are.
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %.0f %.0f %.0f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99),
    latency.max))
end
"""


def parse_wrk(output: bytes) -> Load:
    """Read the line that our script prints.

    Raises:
        LoadError: there is none.
    """
    found = re.search(rb"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise LoadError(f"wrk printed no result: {output[-500:]!r}")
    requests, duration_us, errors, p50_us, p99_us, max_us = map(int, found.groups())
    return Load(
        requests=requests,
        errors=errors,
        seconds=duration_us / 1e6,
        p50_ms=p50_us / 1e3,
        p99_ms=p99_us / 1e3,
        max_ms=max_us / 1e3,
    )


def lua(text: str) -> str:
    """A Lua string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
