"""The whole measurement, in the order in which it disturbs itself least."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import costs, kernel
from .gateways import (
    AUTO,
    PLAIN,
    SCENARIOS,
    SLOW,
    SPACED,
    SPREAD,
    STARTERS,
    STREAM,
    Site,
    Target,
    direct,
    start_routeiq,
    start_simulator,
)
from .launch import Lab, ask, wait_answer
from .load import Generator, LoadError
from .measure import Bench, Plan

Result = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured. Seconds are those of one run of one column."""

    rounds: int
    tries: int
    least: int
    seconds: float
    warm_seconds: float
    paced_seconds: float
    startups: int
    connections: tuple[int, ...]
    workers: tuple[int, ...]


EFFORTS = {
    "full": Effort(
        rounds=5,
        tries=8,
        least=100,
        seconds=2,
        warm_seconds=1,
        paced_seconds=10,
        startups=5,
        connections=(1, 32, 256),
        workers=(1, 4),
    ),
    "quick": Effort(
        rounds=2,
        tries=3,
        least=50,
        seconds=1,
        warm_seconds=1,
        paced_seconds=2,
        startups=2,
        connections=(1, 32),
        workers=(1, 4),
    ),
    "smoke": Effort(
        rounds=1,
        tries=1,
        least=1,
        seconds=0.3,
        warm_seconds=0.1,
        paced_seconds=0.5,
        startups=1,
        connections=(32,),
        workers=(1,),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    effort: Effort
    columns: Sequence[str]
    others: Path
    generator: str | None


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Measure; everything that was seen.

    Raises:
        LaunchError, LoadError: something did not start, or did not answer.
    """
    effort = options.effort
    gateway_cpus, simulator_cpus, generator_cpus = kernel.places()
    with Lab() as lab:
        generator = Generator(lab.path, generator_cpus, options.generator)
        simulator, upstream = start_simulator(lab, simulator_cpus)
        site = Site(lab=lab, gateway_cpus=gateway_cpus, upstream=upstream, others=options.others)
        say("start-up")
        startup = costs.startup_row(site, effort.startups)
        say("memory")
        memory = costs.memory_rows(site, generator, effort.workers, effort.seconds)
        say("decision")
        decision = costs.decision_row(site)
        targets = start_targets(site, options.columns, say)
        bench = Bench(
            lab=lab,
            generator=generator,
            simulator=simulator,
            direct=direct(site),
            targets=targets,
            plan=Plan(
                rounds=effort.rounds,
                tries=effort.tries,
                least=effort.least,
                seconds=effort.seconds,
                warm_seconds=effort.warm_seconds,
                paced_seconds=effort.paced_seconds,
            ),
            say=say,
        )
        rows = []
        for connections in sorted(effort.connections, key=lambda count: count != 32):
            rows += bench.closed(PLAIN, connections)
        rows += bench.closed(AUTO, 32)
        rows += bench.closed(STREAM, 32)
        rows += bench.closed(SPREAD, 32)
        rows += bench.paced(SLOW, rate=100)
        rows += bench.paced(SPACED, rate=10, streams=True)
        others = {one.name: costs.memory_row(1, costs.tree_memory(one)) for one in targets}
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": kernel.machine(),
        "versions": {**versions(), **{one.title: one.version for one in targets if one.version}},
        "method": {
            "generator": generator.kind,
            "rounds": effort.rounds,
            "seconds": effort.seconds,
            "pinned": len(kernel.processors()) > 1,
        },
        "columns": {"direct": "direct call", **{one.name: one.title for one in targets}},
        "fails": {one.name: sorted(one.fails) for one in targets if one.fails},
        "rows": rows,
        "memory": memory,
        "tree_memory": others,
        "startup": startup,
        "decision": decision,
    }


def start_targets(site: Site, columns: Sequence[str], say: Callable[[str], None]) -> list[Target]:
    """RouteIQ, the yardstick, and what else was asked for; each has answered."""
    targets = [start_routeiq(site)]
    for name in ("bare", *columns):
        say(f"starting {name}")
        targets.append(STARTERS[name](site))
    for target in targets:
        if target.process is not None:
            wait_answer(target.process, target.request(PLAIN))
    return [checked(target, say) for target in targets]


def checked(target: Target, say: Callable[[str], None]) -> Target:
    """The target with the scenarios that it fails at: what an error costs is no figure."""
    fails = set()
    for scenario in SCENARIOS:
        if target.serves(scenario):
            status, body = ask(target.request(scenario), timeout_s=30)
            if status != 200:
                fails.add(scenario.name)
                say(f"{target.name} answers {status} to {scenario.name!r}: {body[:200]!r}")
    if fails and target.name in ("routeiq", "bare"):
        raise LoadError(f"{target.name} fails at {', '.join(sorted(fails))}")
    return replace(target, fails=frozenset(fails))


def versions() -> dict[str, str]:
    """What was measured with."""
    found = {"Python": interpreter(), "RouteIQ": package("routeiq-router")}
    return {
        **found,
        **{name: package(name) for name in ("uvicorn", "uvloop", "httptools", "orjson")},
    }


def interpreter() -> str:
    """The Python version, and whether it was compiled to be fast: that is a quarter of the CPU time."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return platform.python_version()
    return f"{platform.python_version()} (built without --enable-optimizations)"


def package(name: str) -> str:
    """The installed version of a package."""
    return importlib.metadata.version(name)
