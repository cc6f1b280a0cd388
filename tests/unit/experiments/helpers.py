"""Experiments, names and requests for the tests of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from routeiq.config.experiments import Experiment
from routeiq.exceptions import StoreUnavailable
from routeiq.experiments.live import Experiments
from routeiq.state.memory.counters import MemoryCounters
from routeiq.stores import Counters
from routeiq.types import Outcome, RoutingRequest, StrategyTraits
from tests.support.clock import FakeClock

AB: dict[str, Any] = {"control": {}, "candidate": {"strategy": "knn"}}
STRATEGIES = {
    "knn": StrategyTraits(),
    "prior": StrategyTraits(),
    "judge": StrategyTraits(prepares=True),
    "cascade": StrategyTraits(verifies=True),
}


class FakeNames:
    """Knows a few strategies, profile `eco` and model `gpt`."""

    def strategy(self, name: str) -> StrategyTraits | None:
        return STRATEGIES.get(name)

    def profile(self, name: str) -> bool:
        return name == "eco"

    def model(self, name: str) -> bool:
        return name == "gpt"


class FlakyCounters(MemoryCounters):
    """Fails before or after it has written, while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: str | None = None
        self.calls: list[tuple[str, str, int]] = []

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        self.calls.append((name, worker, seq))
        if self.fails == "before":
            raise StoreUnavailable("down")
        await super().apply(name, worker, seq, deltas)
        if self.fails == "after":
            raise StoreUnavailable("no answer")


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate({"variants": AB, "subject": ("request",), **more})


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def asked(id: str = "r", model: str = "auto", **more: Any) -> RoutingRequest:
    return RoutingRequest(id=id, operation="chat", model=model, **more)


def running(
    clock: FakeClock,
    *,
    counters: Counters | None = None,
    worker: str = "w",
    enabled: bool = True,
    **experiments: Experiment,
) -> Experiments:
    return Experiments(
        experiments,
        names=FakeNames(),
        counters=counters or MemoryCounters(),
        clock=clock,
        worker=worker,
        enabled=enabled,
    )


def outcome(kind: Any = "success", **more: Any) -> Outcome:
    more = {"latency_ms": 100.0, **more}
    return Outcome(kind=kind, status=200, deployment=None, attempts=(), **more)
