"""Memory, start-up, and the cost of a decision."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from . import kernel
from .gateways import AUTO, MASTER_KEY, PLAIN, STREAM, Scenario, Site, Target, start_routeiq
from .launch import ROOT, passed_on, wait_answer
from .load import Generator

_WARM_CONNECTIONS = 64


def tree_memory(target: Target) -> list[kernel.Memory]:
    """Memory of each process of a target, the parent first."""
    if target.process is None:
        return []
    return [kernel.memory(pid) for pid in kernel.tree(target.process.pid)]


def memory_rows(
    site: Site, generator: Generator, counts: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """RouteIQ's memory with some numbers of workers, after load of every kind."""
    found = []
    for count in counts:
        target = start_routeiq(site, workers=count, pinned=False)
        assert target.process is not None
        wait_answer(target.process, target.request(PLAIN))
        for scenario in (PLAIN, STREAM, AUTO):
            generator.closed(target, scenario, connections=_WARM_CONNECTIONS, seconds=seconds)
        found.append(memory_row(count, tree_memory(target)))
        site.lab.end(target.process)
    return found


def memory_row(count: int, processes: list[kernel.Memory]) -> dict[str, Any]:
    """With several workers the first process is the supervisor, which is in the total but is no worker."""
    workers = processes[1:] if len(processes) > count else processes
    return {
        "workers": count,
        "rss_mb": statistics.mean(one.rss_mb for one in workers),
        "pss_mb": statistics.mean(one.pss_mb for one in workers),
        "uss_mb": statistics.mean(one.uss_mb for one in workers),
        "total_pss_mb": sum(one.pss_mb for one in processes),
    }


def startup_row(site: Site, times: int) -> dict[str, Any]:
    """Seconds from starting the process to its first answer of status 200, through to the provider."""
    found, spent = [], []
    for _ in range(times):
        began = time.monotonic()
        target = start_routeiq(site)
        assert target.process is not None
        wait_answer(target.process, target.request(PLAIN))
        found.append(time.monotonic() - began)
        spent.append(kernel.cpu_s(target.process.pid))
        site.lab.end(target.process)
    return {
        "first_answer_s": statistics.median(found),
        "slowest_s": max(found),
        "cpu_s": statistics.median(spent),
        "times": times,
    }


def decision_row(site: Site) -> dict[str, Any]:
    """Cost of a decision, measured in a process of its own on the gateway's processor."""
    config = site.lab.path / "routeiq.yaml"
    env: Mapping[str, str] = {**passed_on(), "LITELLM_MASTER_KEY": MASTER_KEY}
    output = subprocess.check_output(
        [sys.executable, "-m", "bench.costs", str(config)],
        cwd=ROOT,
        env=env,
        preexec_fn=lambda: kernel.pin(site.gateway_cpus),
    )
    found: dict[str, Any] = orjson.loads(output)
    return found


def measure_decision(config_path: str, *, batches: int = 30, batch: int = 300) -> dict[str, float]:
    """Microseconds of CPU for a decision by the product's own router; nothing is sent anywhere."""
    from routeiq.config.loader import load_config
    from routeiq.gateway.runtime import build
    from routeiq.types import RoutingRequest

    runtime = build(load_config(config_path, os.environ))
    found: dict[str, float] = {}
    cases: tuple[tuple[str, Scenario], ...] = (("auto", AUTO), ("named", PLAIN))
    for name, scenario in cases:
        request = RoutingRequest(
            id="bench",
            operation="chat",
            model=scenario.name,
            text="Explain in two sentences why the sky is blue, for a child of eight years.",
            system="You are a helpful assistant.",
            input_tokens=64,
            max_output_tokens=64,
        )
        samples = []
        for _ in range(batches):
            began = time.process_time()
            for _ in range(batch):
                runtime.router.decide(request)
            samples.append((time.process_time() - began) / batch * 1e6)
        found[f"{name}_us"] = statistics.median(samples)
        found[f"{name}_candidates"] = len(runtime.router.decide(request).ranking)
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(measure_decision(sys.argv[1])))
