"""Stalls: the gateway under PYTHONASYNCIODEBUG=1 with traffic of every kind; no callback may take over 100 ms.

Run twice: on uvloop, as shipped, and on asyncio's own loop, whose debug mode also times what a socket's data
sets off.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import kernel
from .gateways import PLAIN, STREAM, Site, Target, start_routeiq, start_simulator
from .launch import ROOT, Lab, wait_answer
from .load import Generator
from .mixed import Background

LIMIT_MS = 100.0
NOTED_MS = 20.0
_SLOW = re.compile(r"Executing (?P<what>.{0,2000}?) took (?P<seconds>\d+\.\d+) seconds")


def slow_callbacks(log: str) -> list[tuple[float, str]]:
    """Milliseconds and description of what asyncio complained of, slowest first."""
    found = [(float(one["seconds"]) * 1e3, one["what"]) for one in _SLOW.finditer(log)]
    return sorted(found, reverse=True)


def stalls(
    *, seconds: float, generator: str | None, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run on both loops; what was seen, with a verdict in `passed`."""
    return [_one(loop, seconds, generator, say) for loop in ("uvloop", "asyncio")]


def _one(
    loop: str, seconds: float, generator: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    gateway_cpus, simulator_cpus, generator_cpus = kernel.places()
    with Lab() as lab:
        _, upstream = start_simulator(lab, simulator_cpus)
        site = Site(lab=lab, gateway_cpus=gateway_cpus, upstream=upstream, others=Path())
        target = start_routeiq(
            site,
            command=[sys.executable, "-m", "bench.debug_gateway", loop],
            env={"PYTHONASYNCIODEBUG": "1", "PYTHONPATH": str(ROOT)},
        )
        assert target.process is not None
        wait_answer(target.process, target.request(PLAIN))
        load = Generator(lab.path, generator_cpus, generator)
        requests, errors, background = asyncio.run(_traffic(target, load, seconds))
        log = target.process.log.read_text(errors="replace")
    found = slow_callbacks(log)
    say(f"{loop}: {requests:,} requests")
    return {
        "loop": loop,
        "seconds": seconds,
        "requests": requests,
        "errors": errors,
        "background": background.statuses,
        "slow": [{"ms": ms, "what": what[:400]} for ms, what in found[:20]],
        "worst_ms": found[0][0] if found else 0.0,
        "debugging": "DEBUG-LOOP" in log,
        "passed": "DEBUG-LOOP" in log
        and all(ms <= LIMIT_MS for ms, _ in found)
        and not errors
        and not background.unexpected(),
    }


async def _traffic(target: Target, load: Generator, seconds: float) -> tuple[int, int, Background]:
    background = Background(target, lanes=2)
    until = time.monotonic() + seconds
    running = True
    side = asyncio.create_task(background.run(lambda: running))
    requests = errors = number = 0
    while (left := until - time.monotonic()) > 0:
        scenario = STREAM if number % 2 else PLAIN
        number += 1
        seen = await asyncio.to_thread(
            load.closed, target, scenario, connections=64, seconds=max(1, min(5, left))
        )
        requests, errors = requests + seen.requests, errors + seen.errors
    running = False
    await side
    return requests, errors, background


def verdict(results: Sequence[dict[str, Any]]) -> str:
    """In words."""
    lines = []
    for one in results:
        worst = f"{one['worst_ms']:.0f} ms" if one["slow"] else f"under {NOTED_MS:.0f} ms"
        state = "passed" if one["passed"] else "FAILED"
        lines.append(
            f"stalls on {one['loop']} {state}: {one['requests']:,} requests, {one['errors']} errors, beside them "
            f"{one['background']}; slowest callback {worst} (limit {LIMIT_MS:.0f} ms)"
        )
        lines += [f"  {slow['ms']:6.0f} ms  {slow['what']}" for slow in one["slow"][:5]]
    return "\n".join(lines)
