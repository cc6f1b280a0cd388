"""Rounds: every target in turn, over and over, and the medians of what was seen.

The machine may have other work. Each run notes how much of it there was; of the rounds made, the quiet ones count.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import kernel
from .gateways import Scenario, Target
from .launch import Lab, Process
from .load import Generator, LoadError

QUIET = 0.15
"""Share of the machine that others may use (or the hypervisor take) while a round still counts as quiet."""
_IDLE_SHARE = 0.1
_IDLE_WITHIN_S = 30.0
_SETTLE_S = 0.15  # what a request leaves to do after its answer, such as the log, belongs to it

Numbers = dict[str, float]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often."""

    rounds: int
    tries: int
    least: int
    seconds: float
    warm_seconds: float
    paced_seconds: float


@dataclass(slots=True, kw_only=True)
class Bench:
    """What every measurement needs."""

    lab: Lab
    generator: Generator
    simulator: Process
    direct: Target
    targets: Sequence[Target]
    plan: Plan
    say: Say

    def closed(self, scenario: Scenario, connections: int) -> list[dict[str, Any]]:
        """CPU time and latency with N connections; one row for each target."""
        targets = [one for one in (self.direct, *self.targets) if one.serves(scenario)]
        self.say(
            f"{scenario.title}, {connections} connections: {', '.join(t.name for t in targets)}"
        )

        def one_round() -> dict[str, Numbers]:
            return {one.name: self._closed_once(one, scenario, connections) for one in targets}

        rounds = quiet_rounds(one_round, self.plan.rounds, self.plan.tries)
        return rows(scenario.name, connections, rounds)

    def _closed_once(self, target: Target, scenario: Scenario, connections: int) -> Numbers:
        """One run; longer, and again, where too few requests were answered for a figure."""
        seconds = self.plan.seconds
        for _ in range(3):
            numbers = self._closed_for(target, scenario, connections, seconds)
            if numbers["requests"] >= self.plan.least:
                return numbers
            seconds *= 4
        raise LoadError(
            f"{target.name} answered {numbers['requests']:.0f} requests for {scenario.name!r} in "
            f"{seconds / 4:g} s, too few for a figure; wait until the machine has less to do"
        )

    def _closed_for(
        self, target: Target, scenario: Scenario, connections: int, seconds: float
    ) -> Numbers:
        with self.lab.only(self.simulator, *processes(target)):
            self.generator.closed(
                target, scenario, connections=connections, seconds=self.plan.warm_seconds
            )
            self._wait_idle(target)
            before, began, spent = kernel.busy(), time.monotonic(), self._spent(target)
            children = child_cpu_s()
            load = self.generator.closed(target, scenario, connections=connections, seconds=seconds)
            time.sleep(_SETTLE_S)
            used = [after - was for after, was in zip(self._spent(target), spent, strict=True)]
            ours = sum(used) + child_cpu_s() - children
            noise = disturbance(before, ours, time.monotonic() - began)
        return {
            "requests": load.requests,
            "errors": load.errors,
            "per_s": load.requests / load.seconds,
            "cpu_ms": used[1] / max(load.requests, 1) * 1e3,
            "simulator_cpu_ms": used[0] / max(load.requests, 1) * 1e3,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "noise": noise,
        }

    def _wait_idle(self, target: Target) -> None:
        """Let what the warm-up left behind end: a gateway may finish requests whose client has gone."""
        until = time.monotonic() + _IDLE_WITHIN_S
        spent = sum(self._spent(target))
        while time.monotonic() < until:
            time.sleep(_SETTLE_S)
            before, spent = spent, sum(self._spent(target))
            if spent - before <= _IDLE_SHARE * _SETTLE_S:
                return

    def _spent(self, target: Target) -> tuple[float, float]:
        own = kernel.cpu_s(target.process.pid) if target.process else 0.0
        return kernel.cpu_s(self.simulator.pid), own

    def paced(
        self, scenario: Scenario, *, rate: float, streams: bool = False
    ) -> list[dict[str, Any]]:
        """A fixed rate, direct and through each target at the same time, request by request in turn."""
        found: list[dict[str, Any]] = []
        for target in self.targets:
            if not target.serves(scenario):
                continue
            self.say(f"{scenario.title}, {rate:g} a second: {target.name}")
            pair = (self.direct, target)

            def one_round(pair: tuple[Target, Target] = pair) -> dict[str, Numbers]:
                return self._paced_once(pair, scenario, rate, streams)

            rounds = quiet_rounds(one_round, self.plan.rounds, self.plan.tries)
            made = rows(scenario.name, 0, rounds)
            found += made if not found else made[1:]
        return found

    def _paced_once(
        self, pair: tuple[Target, Target], scenario: Scenario, rate: float, streams: bool
    ) -> dict[str, Numbers]:
        target = pair[1]
        with self.lab.only(self.simulator, *processes(target)):
            before, began, spent = kernel.busy(), time.monotonic(), self._spent(target)
            children = child_cpu_s()
            answers = self.generator.paced(
                pair, scenario, rate=rate, seconds=self.plan.paced_seconds, streams=streams
            )
            used = [after - was for after, was in zip(self._spent(target), spent, strict=True)]
            ours = sum(used) + child_cpu_s() - children
            noise = disturbance(before, ours, time.monotonic() - began)
        numbers = {
            one.name: {**answer, "noise": noise} for one, answer in zip(pair, answers, strict=True)
        }
        numbers[target.name]["cpu_ms"] = used[1] / max(numbers[target.name]["requests"], 1) * 1e3
        return numbers


def processes(target: Target) -> list[Process]:
    """The target's process, where it has one."""
    return [target.process] if target.process else []


def child_cpu_s() -> float:
    """CPU time of this process and the generators that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def disturbance(before: kernel.Busy, ours_s: float, wall_s: float) -> float:
    """Share of the machine that was used by others, or not given to us."""
    after = kernel.busy()
    foreign = max(0.0, after.used_s - before.used_s - ours_s)
    stolen = after.stolen_s - before.stolen_s
    return (foreign + stolen) / wall_s / len(kernel.processors())


def quiet_rounds(
    one_round: Callable[[], dict[str, Numbers]], wanted: int, tries: int
) -> list[dict[str, Numbers]]:
    """Make rounds until `wanted` were quiet, at most `tries`; then the quietest count."""
    made: list[dict[str, Numbers]] = []
    while len(made) < tries and sum(noise(one) <= QUIET for one in made) < wanted:
        made.append(one_round())
    return sorted(made, key=noise)[:wanted]


def noise(numbers: dict[str, Numbers]) -> float:
    """A round is as noisy as its noisiest run."""
    return max(one["noise"] for one in numbers.values())


def rows(scenario: str, connections: int, rounds: list[dict[str, Numbers]]) -> list[dict[str, Any]]:
    """Medians over the rounds for each target, and of what each added to the direct call of its round."""
    found: list[dict[str, Any]] = []
    for target in rounds[0]:
        row: dict[str, Any] = {"scenario": scenario, "connections": connections, "target": target}
        for name in rounds[0][target]:
            row[name] = statistics.median(one[target][name] for one in rounds)
        if target != "direct":
            for name in rounds[0]["direct"]:
                if name.endswith("_ms") and "cpu" not in name:
                    row[f"added_{name}"] = statistics.median(
                        one[target][name] - one["direct"][name] for one in rounds
                    )
        if "cpu_ms" in row:
            spent = [one[target]["cpu_ms"] for one in rounds]
            row["cpu_ms_low"], row["cpu_ms_high"] = min(spent), max(spent)
            if "bare" in rounds[0]:
                row["cpu_of_bare"] = statistics.median(
                    one[target]["cpu_ms"] / one["bare"]["cpu_ms"] for one in rounds
                )
        row["errors"] = sum(one[target]["errors"] for one in rounds)
        row["rounds"] = len(rounds)
        found.append(row)
    return found
