from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routeiq.config.experiments import Experiment
from routeiq.experiments.definitions import Definition, merge
from routeiq.experiments.exposure import group
from routeiq.experiments.results import METRICS, report
from routeiq.experiments.running import epoch_of
from routeiq.state.memory.counters import MemoryCounters
from tests.support.clock import FakeClock
from tests.unit.experiments.helpers import asked, experiment, outcome, running

pytestmark = pytest.mark.anyio


def defined(one: Experiment, **document: Any) -> Definition:
    found, problems = merge({"e": one}, document)
    assert problems == []
    return found["e"]


async def figures(clock: FakeClock, one: Experiment, n: int) -> dict[str, int]:
    """Counters of a candidate that is dearer, slower and better, with as many failures."""
    counters, rng = MemoryCounters(), np.random.default_rng(1)
    live = running(clock, counters=counters, e=one)
    for i in range(n):
        found = live.assign(asked(f"r{i}"))
        assert found is not None
        live.exposed(found)
        worse = found.arm.variant == "candidate"
        seen = outcome(
            "error" if i % 50 == 0 else "success",
            cost_usd=float(rng.lognormal(-6.5 + 0.4 * worse, 0.3)),
            latency_ms=float(rng.lognormal(6 + 0.3 * worse, 0.3)),
        )
        live.observed(found, seen)
        if i % 2 == 0:
            live.rated("e", found.arm.label, float(rng.random() < 0.5 + 0.2 * worse))
    await live.flush()
    return dict(await counters.read(group("e")))


async def test_the_report_has_means_intervals_and_what_is_significant(clock: FakeClock) -> None:
    one = experiment(guards=[{"metric": "cost_usd", "margin": 0.5}])
    found = report(defined(one), await figures(clock, one, 6000), clock.wall())
    control, candidate = found["variants"]["control"], found["variants"]["candidate"]
    assert found["state"] == "running"
    assert found["control"] == "control"
    assert control["requests"] + candidate["requests"] == 6000
    assert candidate["share"] == candidate["requests"] / 6000
    assert candidate["configured_share"] == 0.5
    assert control["difference"] is None
    assert control["metrics"]["cost_usd"]["mean"] == pytest.approx(np.exp(-6.5 + 0.045), rel=0.02)
    assert control["metrics"]["latency_ms"]["mean"] == pytest.approx(np.exp(6.045), rel=0.02)
    assert control["metrics"]["quality"]["mean"] == pytest.approx(0.5, abs=0.04)
    assert control["metrics"]["error_rate"]["mean"] == pytest.approx(0.02, abs=0.006)
    assert control["metrics"]["first_token_ms"] == {"n": 0, "mean": None, "low": None, "high": None}
    for metric in ("cost_usd", "latency_ms", "quality"):
        of = control["metrics"][metric]
        assert of["low"] < of["mean"] < of["high"]
        assert candidate["difference"][metric]["significant"], metric
        assert candidate["difference"][metric]["low"] > 0
        assert candidate["difference"][metric]["p"] < 0.05
    assert not candidate["difference"]["error_rate"]["significant"]
    assert candidate["difference"]["first_token_ms"] is None
    assert not found["split"]["mismatch"]
    assert not found["split"]["deviates"]
    assert found["split"]["draws"] == 6000
    assert [(g["variant"], g["metric"], g["stopped"]) for g in found["guards"]] == [
        ("candidate", "cost_usd", False)
    ]
    assert found["guards"][0]["low"] < found["guards"][0]["high"]
    assert found["notes"] == []


async def test_more_confidence_is_a_wider_interval(clock: FakeClock) -> None:
    one = experiment()
    fields = await figures(clock, one, 2000)
    widths = []
    for confidence in (0.9, 0.99):
        of = report(defined(one), fields, clock.wall(), confidence)["variants"]["control"]
        widths.append(
            [of["metrics"][m]["high"] - of["metrics"][m]["low"] for m in ("quality", "cost_usd")]
        )
    assert all(x < y for x, y in zip(*widths, strict=True))


def test_before_the_first_request_there_is_nothing(clock: FakeClock) -> None:
    found = report(defined(experiment(subject=("key",))), {}, clock.wall())
    for one in found["variants"].values():
        assert (one["requests"], one["share"]) == (0, None)
        assert all(one["metrics"][metric]["mean"] is None for metric in METRICS)
    assert found["split"]["draws"] == 0
    assert "independent" in found["notes"][0]


def test_a_split_that_is_wrong_is_said(clock: FakeClock) -> None:
    definition = defined(experiment())
    epoch = epoch_of(definition)
    fields = {
        f"control:units@{epoch}": 5600,
        f"candidate:units@{epoch}": 4400,
        f"workers@{epoch}": 8,
    }
    split = report(definition, fields, clock.wall())["split"]
    assert split["mismatch"]
    assert split["deviates"]
    # Of other weights, or of before a reset, nothing is taken.
    reset = defined(experiment(), resets={"e": 1})
    assert report(reset, fields, clock.wall())["split"]["draws"] == 0
    others = defined(
        experiment(variants={"control": {"weight": 3}, "candidate": {"strategy": "knn"}})
    )
    assert report(others, fields, clock.wall())["split"]["draws"] == 0


def test_subjects_may_have_been_counted_once_by_each_worker(clock: FakeClock) -> None:
    definition = defined(experiment(subject=("key",)))
    epoch = epoch_of(definition)
    fields = {
        f"control:units@{epoch}": 5250,
        f"candidate:units@{epoch}": 4750,
        f"workers@{epoch}": 8,
    }
    split = report(definition, fields, clock.wall())["split"]
    assert split["draws"] == 1250
    assert not split["mismatch"]
    alone = {**fields, f"workers@{epoch}": 1}
    assert report(definition, alone, clock.wall())["split"]["mismatch"]


def test_requests_after_a_stop_belong_to_the_split_but_not_to_the_figures(clock: FakeClock) -> None:
    stop = {"at": 1.0, "why": "worse"}
    definition = defined(experiment(), stopped={"e": {"candidate": stop}})
    fields = {"control:requests": 50, "candidate:requests": 20, "candidate!:requests": 30}
    candidate = report(definition, fields, clock.wall())["variants"]["candidate"]
    assert candidate["requests"] == 20
    assert candidate["requests_after_stop"] == 30
    assert candidate["share"] == 0.5
    assert candidate["stopped"] == stop
