"""The kernel's own accounting: CPU time and memory of a process tree, and what else the machine does."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Mebibytes. `pss_mb` shares common pages out among their users; `uss_mb` is what only this process has."""

    rss_mb: float
    pss_mb: float
    uss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Seconds of CPU since boot over all processors: spent on anything, and taken by the hypervisor."""

    used_s: float
    stolen_s: float


def tree(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    found = [pid]
    for children in _PROC.glob(f"{pid}/task/*/children"):
        try:
            found += [one for child in children.read_text().split() for one in tree(int(child))]
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
    return found


def cpu_s(pid: int) -> float:
    """User plus system seconds that a process tree has used."""
    total = 0
    for one in tree(pid):
        try:
            fields = (_PROC / str(one) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def memory(pid: int) -> Memory:
    """Memory of one process."""
    values: dict[str, int] = {}
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    own = values["Private_Clean"] + values["Private_Dirty"]
    return Memory(rss_mb=values["Rss"] / 1024, pss_mb=values["Pss"] / 1024, uss_mb=own / 1024)


def busy() -> Busy:
    """What the processors have done since boot."""
    line = (_PROC / "stat").read_text().splitlines()[0].split()
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line[1:9])
    used = user + nice + system + irq + softirq
    return Busy(used_s=used / _TICKS, stolen_s=steal / _TICKS)


def processors() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


def pin(cpus: Iterable[int]) -> None:
    """Keep this process, and what it starts from now on, on these processors."""
    os.sched_setaffinity(0, set(cpus))


def places() -> tuple[list[int], list[int], list[int]]:
    """Processors for the gateway, the simulator and the load generator.

    The gateway gets one of its own; the other two share one where there are only two.
    """
    found = processors()
    if len(found) == 1:
        return found, found, found
    return [found[0]], [found[1]], [found[2] if len(found) > 2 else found[1]]


def machine() -> dict[str, str | int]:
    """The machine in words that say nothing about whose it is."""
    model = "unknown processor"
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.partition(":")[2].strip()
            break
    total_kb = int((_PROC / "meminfo").read_text().split()[1])
    return {
        "processor": model,
        "cores": len(processors()),
        "memory_gb": round(total_kb / 2**20),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }
