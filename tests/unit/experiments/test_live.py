from __future__ import annotations

import logging
from collections import Counter

import pytest

from routeiq.exceptions import ConfigError
from routeiq.experiments import live
from routeiq.experiments.exposure import group
from routeiq.experiments.live import Experiments
from routeiq.experiments.running import Assignment
from routeiq.state.memory.counters import MemoryCounters
from tests.support.clock import FakeClock
from tests.unit.experiments.helpers import (
    FlakyCounters,
    asked,
    at,
    experiment,
    outcome,
    running,
)

pytestmark = pytest.mark.anyio


def assigned(live: Experiments, id: str = "r", **more: str) -> Assignment:
    found = live.assign(asked(id), **more)
    assert found is not None
    return found


def variants(live: Experiments, n: int = 2000) -> list[str | None]:
    found = [live.assign(asked(f"r{i}")) for i in range(n)]
    return [None if one is None else one.arm.variant for one in found]


def test_a_variant_says_what_it_changes(clock: FakeClock) -> None:
    split = {
        "control": {},
        "s": {"strategy": "knn"},
        "p": {"profile": "eco"},
        "m": {"model": "gpt"},
    }
    experiments = running(clock, e=experiment(variants=split))
    arms = {a.arm.variant: a.arm for a in (assigned(experiments, f"r{i}") for i in range(99))}
    changes = {name: (arm.strategy, arm.profile, arm.model) for name, arm in arms.items()}
    assert changes == {
        "control": (None, None, None),
        "s": ("knn", None, None),
        "p": (None, "eco", None),
        "m": (None, None, "gpt"),
    }
    assert arms["s"].header == "e=s"


def test_one_key_stays_with_one_variant_in_every_worker(clock: FakeClock) -> None:
    ab = experiment(subject=("key", "request"))
    one, other = running(clock, e=ab), running(clock, worker="x", e=ab)
    for key in map(str, range(50)):
        found = {
            assigned(x, f"r{i}", key_id=key).arm.variant for x in (one, other) for i in range(9)
        }
        assert len(found) == 1


def test_only_the_models_that_take_part(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(models=("auto", "gpt-*")))
    took = [m for m in ("auto", "gpt-4", "gpt", "claude") if experiments.assign(asked(model=m))]
    assert took == ["auto", "gpt-4"]


def test_models_that_clients_make_up_are_not_remembered_for_ever(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routeiq.experiments.running._REMEMBERED", 8)
    experiments = running(clock, e=experiment())
    for n in range(100):
        experiments.assign(asked(model=f"m{n}"))
    assert len(experiments._compiled.live) <= 8
    assert experiments.assign(asked()) is not None


def test_traffic_that_grows_only_adds_subjects_and_keeps_their_variants(clock: FakeClock) -> None:
    few, many = (variants(running(clock, e=experiment(traffic=t))) for t in (0.2, 0.6))
    assert sum(v is not None for v in few) == pytest.approx(400, abs=80)
    assert all(x == y for x, y in zip(few, many, strict=True) if x is not None)


def test_a_ramp_follows_the_wall_clock(clock: FakeClock) -> None:
    ramp = {"start": 0.1, "hours": 2}
    experiments = running(clock, e=experiment(start=at(clock.wall() + 1), traffic=0.4, ramp=ramp))
    shares, seen = [], set[int]()
    for seconds in (0, 1, 3600, 3600, 3600):
        clock.advance(seconds)
        now = {i for i, v in enumerate(variants(experiments)) if v}
        assert seen <= now
        seen = now
        shares.append(len(now) / 2000)
    assert shares == pytest.approx([0, 0.1, 0.2, 0.4, 0.4], abs=0.04)


def test_one_that_ended_gets_nobody(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(end=at(clock.wall() + 5)))
    assert experiments.assign(asked()) is not None
    clock.advance(5)
    assert experiments.assign(asked()) is None


def test_switched_off_nobody_is_assigned(clock: FakeClock) -> None:
    experiments = running(clock, enabled=False, e=experiment())
    assert experiments.assign(asked()) is None
    experiments.swap(None)
    assert experiments.assign(asked()) is None


def test_experiments_of_one_layer_share_nobody(clock: FakeClock) -> None:
    first, second = (experiment(layer="l", traffic=0.5, start=at(n)) for n in (1.0, 2.0))
    experiments = running(clock, a=first, b=second)
    found = [assigned(experiments, f"r{i}") for i in range(1000)]
    assert Counter(one.arm.experiment for one in found)["a"] == pytest.approx(500, abs=65)
    assert all(one.also == () for one in found)


def test_a_request_belongs_to_the_experiment_that_began_first(clock: FakeClock) -> None:
    young, old = experiment(start=at(9.0)), experiment(start=at(5.0), traffic=0.5)
    found = [assigned(running(clock, a=young, b=old), f"r{i}") for i in range(200)]
    assert {one.arm.experiment: one.also for one in found} == {"b": ("a",), "a": ()}


def test_those_who_named_a_profile_keep_it(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(variants={"a": {}, "b": {"profile": "eco"}}))
    assert experiments.assign(asked(profile="premium")) is None
    assert experiments.assign(asked()) is not None


def test_a_subject_that_the_request_lacks_keeps_it_out(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(subject=("team",)))
    assert experiments.assign(asked()) is None
    assert experiments.assign(asked(), team="t") is not None


def test_odd_names_do_no_harm(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment(subject=("session",)))
    assert experiments.assign(asked(session_id="\ud800")) is not None


def test_what_cannot_be_used_in_the_configuration_is_an_error(clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"routeiq\.experiments\.e\.variants\.b\.strategy"):
        running(clock, e=experiment(variants={"a": {}, "b": {"strategy": "nope"}}))


def test_control_state_replaces_the_set_and_a_mistake_in_it_spares_the_rest(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    experiments = running(clock, e=experiment(models=("a",)))
    good = {"variants": {"x": {}}, "models": ["b"]}
    experiments.swap({"definitions": {"f": good, "g": {"variants": {}}}})
    assert set(experiments.definitions) == {"e", "f"}
    assert experiments.assign(asked(model="b")) is not None
    assert [p.key for p in experiments.problems] == ["routeiq.experiments.g.variants"]
    assert "cannot be used" in caplog.text
    experiments.swap(None)
    assert set(experiments.definitions) == {"e"}


def test_a_stopped_variant_is_served_as_the_control_and_counted_apart(clock: FakeClock) -> None:
    experiments = running(clock, e=experiment())
    before = [assigned(experiments, f"r{i}") for i in range(99)]
    experiments.swap({"stopped": {"e": {"candidate": {"at": 1, "why": "worse"}}}})
    after = [assigned(experiments, f"r{i}") for i in range(99)]
    assert [one.arm.assigned for one in before] == [one.arm.assigned for one in after]
    assert {one.arm.variant for one in after} == {"control"}
    assert {one.arm.strategy for one in after} == {None}
    assert {one.arm.label for one in after} == {"control", "candidate!"}


def test_the_record_has_what_feedback_needs(clock: FakeClock) -> None:
    record = assigned(running(clock, a=experiment(), b=experiment())).record()
    assert record["experiment"] == "a"
    assert record["variant"] == record["label"]
    assert record["subject"] == "request"
    assert record["also"] == ["b"]


async def test_exposures_are_counted_exactly_over_workers(clock: FakeClock) -> None:
    counters = MemoryCounters()
    fleet = [running(clock, counters=counters, worker=f"w{n}", e=experiment()) for n in range(4)]
    expected: Counter[str] = Counter()
    for i in range(2000):
        worker = fleet[i % 4]
        found = assigned(worker, f"r{i}")
        worker.exposed(found)
        expected[found.arm.variant] += 1
        if i % 97 == 0:
            assert await worker.flush()
    for worker in fleet:
        await worker.close()
    fields = await counters.read(group("e"))
    for name, n in expected.items():
        assert fields[f"{name}:requests"] == n
    units = {k: v for k, v in fields.items() if ":units@" in k}
    assert sorted(units.values()) == sorted(expected.values())
    assert [v for k, v in fields.items() if k.startswith("workers@")] == [4]


async def test_nothing_is_lost_or_counted_twice_while_the_store_fails(clock: FakeClock) -> None:
    counters = FlakyCounters()
    experiments = running(clock, counters=counters, e=experiment(variants={"only": {}}))
    for i, fails in enumerate(["before", "after", "after", None, "before", None, "after", None]):
        experiments.exposed(assigned(experiments, f"r{i}"))
        counters.fails = fails
        assert await experiments.flush() is (fails is None)
    assert (await counters.read(group("e")))["only:requests"] == 8
    assert experiments.tally.waiting == 0


async def test_at_the_end_what_is_lost_is_said(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = FlakyCounters()
    experiments = running(clock, counters=counters, e=experiment())
    experiments.exposed(assigned(experiments))
    counters.fails = "before"
    with caplog.at_level(logging.ERROR):
        await experiments.close()
    assert "are lost" in caplog.text


async def test_a_subject_is_drawn_once_per_worker_and_weights(clock: FakeClock) -> None:
    counters = MemoryCounters()
    ab = experiment(subject=("key",), variants={"a": {}, "b": {"weight": 0, "strategy": "knn"}})
    experiments = running(clock, counters=counters, e=ab)
    for i in range(30):
        experiments.exposed(assigned(experiments, key_id=f"k{i % 3}"))
    experiments.swap({"resets": {"e": 1}})
    experiments.exposed(assigned(experiments, key_id="k0"))
    await experiments.flush()
    fields = await counters.read(group("e"))
    assert fields["a:requests"] == 31
    units = {field[8]: n for field, n in fields.items() if field.startswith("a:units@")}
    assert units == {"0": 3, "1": 1}


async def test_subjects_beyond_the_memory_are_not_counted_as_drawn(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MEMORY", 5)
    counters = MemoryCounters()
    experiments = running(
        clock, counters=counters, e=experiment(subject=("key",), variants={"a": {}})
    )
    for i in range(20):
        experiments.exposed(assigned(experiments, key_id=f"k{i}"))
    await experiments.flush()
    fields = await counters.read(group("e"))
    assert fields["a:requests"] == 20
    assert [n for field, n in fields.items() if ":units@" in field] == [5]


async def test_outcomes_become_sums(clock: FakeClock) -> None:
    counters = MemoryCounters()
    experiments = running(clock, counters=counters, e=experiment(variants={"a": {}}))
    found = assigned(experiments)
    experiments.observed(found, outcome(cost_usd=0.02, latency_ms=2.5, first_token_ms=1.25))
    experiments.observed(found, outcome("error", cost_usd=0.01, latency_ms=9e9))
    experiments.observed(found, outcome("stream_cut"))
    experiments.observed(found, outcome("client_disconnected", cost_usd=100.0))
    experiments.rated("e", "a", 0.5)
    experiments.rated("e", "a", 1.0, before=0.5)
    experiments.rated("gone", "a", 1.0)
    await experiments.flush()
    fields = dict(await counters.read(group("e")))
    squares = {
        name: (fields.pop(f"a:{name}_sq_hi", 0) << 32) + fields.pop(f"a:{name}_sq")
        for name in ("cost", "latency", "first_token", "quality")
    }
    assert squares == {
        "cost": 20_000_000**2 + 10_000_000**2 + 10**22,
        "latency": 2500**2,
        "first_token": 1250**2,
        "quality": 10**12,
    }
    assert fields == {
        "a:cost": 100_030_000_000,
        "a:cost_n": 3,
        "a:ended": 3,
        "a:errors": 2,
        "a:latency": 2500,
        "a:latency_n": 1,
        "a:first_token": 1250,
        "a:first_token_n": 1,
        "a:quality": 1_000_000,
        "a:quality_n": 1,
    }
    assert await counters.read(group("gone")) == {}


def test_sums_fit_64_bits_for_what_is_promised() -> None:
    requests = 2_000_000_000
    for number in (1_000_000_000, 600_000_000):  # a dollar, ten minutes
        assert number * requests < 2**63
        assert (number * number >> 32) * requests < 2**63
    assert (2**32 - 1) * requests < 2**63
