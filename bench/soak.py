"""Leaks: a thousand requests at once for minutes, with streams cut and rubbish beside; memory must level off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import kernel
from .gateways import PLAIN, STREAM, Site, Target, start_routeiq, start_simulator
from .launch import Lab, wait_answer
from .load import Generator, LoadError
from .mixed import Background

_GROWTH_MB = 1.0
_GROWTH_SHARE = 0.02
_SLICE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The second half of the samples: a straight line through them."""

    start_mb: float
    end_mb: float
    slope_mb_per_minute: float
    minutes: float

    @property
    def growth_mb(self) -> float:
        """What the line gains over the second half."""
        return self.slope_mb_per_minute * self.minutes

    @property
    def level(self) -> bool:
        """Whether that is no more than noise: 1 MB or 2 %."""
        return self.growth_mb <= max(_GROWTH_MB, _GROWTH_SHARE * self.start_mb)


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Least squares over the second half of (second, megabytes)."""
    middle = (samples[0][0] + samples[-1][0]) / 2
    half = [one for one in samples if one[0] >= middle]
    mean_s = sum(at for at, _ in half) / len(half)
    mean_mb = sum(mb for _, mb in half) / len(half)
    spread = sum((at - mean_s) ** 2 for at, _ in half)
    slope = sum((at - mean_s) * (mb - mean_mb) for at, mb in half) / spread if spread else 0.0
    return Trend(
        start_mb=half[0][1],
        end_mb=half[-1][1],
        slope_mb_per_minute=slope * 60,
        minutes=(half[-1][0] - half[0][0]) / 60,
    )


class Watch(threading.Thread):
    """Samples a process's resident memory every second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self._pid = pid
        self._began = time.monotonic()
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        while not self._stop_now.wait(1.0):
            rss = sum(kernel.memory(pid).rss_mb for pid in kernel.tree(self._pid))
            self.samples.append((time.monotonic() - self._began, rss))

    def stop(self) -> None:
        """Stop sampling."""
        self._stop_now.set()
        self.join()


def soak(
    *,
    seconds: float,
    connections: int,
    generator: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run it; what was seen, with a verdict in `passed`."""
    gateway_cpus, simulator_cpus, generator_cpus = kernel.places()
    with Lab() as lab:
        _, upstream = start_simulator(lab, simulator_cpus)
        site = Site(lab=lab, gateway_cpus=gateway_cpus, upstream=upstream, others=Path())
        target = start_routeiq(site)
        assert target.process is not None
        wait_answer(target.process, target.request(PLAIN))
        load = Generator(lab.path, generator_cpus, generator)
        watch = Watch(target.process.pid)
        watch.start()
        requests, errors, background = asyncio.run(
            _traffic(target, load, connections, seconds, say, watch)
        )
        watch.stop()
        alive = target.process.popen.poll() is None
        line = trend(watch.samples)
    return {
        "seconds": seconds,
        "connections": connections,
        "requests": requests,
        "errors": errors,
        "background": background.statuses,
        "rss_mb": [round(mb, 1) for _, mb in watch.samples],
        "growth_mb": line.growth_mb,
        "slope_mb_per_minute": line.slope_mb_per_minute,
        "end_mb": line.end_mb,
        "level": line.level,
        "passed": line.level and not errors and not background.unexpected() and alive,
    }


async def _traffic(
    target: Target,
    load: Generator,
    connections: int,
    seconds: float,
    say: Callable[[str], None],
    watch: Watch,
) -> tuple[int, int, Background]:
    """Slices of plain requests and streams, with the background beside."""
    background = Background(target, lanes=20)
    until = time.monotonic() + seconds
    running = True
    side = asyncio.create_task(background.run(lambda: running))
    requests = errors = number = 0
    while (left := until - time.monotonic()) > 1:
        scenario = STREAM if number % 3 == 2 else PLAIN
        number += 1
        try:
            seen = await asyncio.to_thread(
                load.closed,
                target,
                scenario,
                connections=connections,
                seconds=min(_SLICE_S, max(left, 1)),
            )
        except LoadError as error:
            say(str(error))
            errors += 1
            continue
        requests, errors = requests + seen.requests, errors + seen.errors
        memory = f"{watch.samples[-1][1]:.0f} MB" if watch.samples else ""
        say(f"{left:4.0f} s left, {requests:,} requests, {errors} errors, {memory}")
    running = False
    await side
    return requests, errors, background


def verdict(result: dict[str, Any]) -> str:
    """In words."""
    level = "levels off" if result["level"] else "GROWS"
    return (
        f"soak {'passed' if result['passed'] else 'FAILED'}: {result['requests']:,} requests over "
        f"{result['connections']:,} connections in {result['seconds']:g} s, {result['errors']} errors, "
        f"beside them {result['background']} (status: count); memory {level}: "
        f"{result['end_mb']:.1f} MB at the end, {result['growth_mb']:+.2f} MB over the second half "
        f"({result['slope_mb_per_minute']:+.2f} MB/min)"
    )
