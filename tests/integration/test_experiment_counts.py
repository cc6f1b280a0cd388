"""Experiments over two gateways of two workers each, on PostgreSQL and Redis: control, exact counts, guards."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.experimenting import (
    EXPERIMENTS,
    SESSION,
    Client,
    counted,
    group,
    many,
    results,
    variant_of,
    variants_of,
    wait_counted,
)
from tests.integration.fleet import Fleet, fleet
from tests.integration.helpers import KEY, get, post, write
from tests.support.http import Answer, call
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until
from tests.support.redis import needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(120)]
APPLIED_S = 3.0
"""In which a change must be everywhere: the promise is 1 s, the machine may be busy with other things."""
BIG = {"control": {}, "big": {"model": "sim-large"}}
GROUPS = ("pool", "told", "restart", "outage", "figures", "guarded", "scored", "skewed")


def experiment(model: str, **fields: Any) -> dict[str, Any]:
    return {"models": [model], "subject": ["session"], "variants": BIG, **fields}


def config(sim: SimulatorProcess) -> dict[str, Any]:
    entries = [*(group(name, sim) for name in GROUPS), group("sim-large", sim, "sim-large")]
    section = {
        "experiments": {
            name: experiment(name) for name in ("pool", "restart", "outage", "figures", "skewed")
        },
        "resilience": {"backoff_base_s": 0.001},
    }
    return {
        "model_list": entries,
        "router_settings": {"num_retries": 0, "allowed_fails": 1_000_000},
        "routeiq": section,
    }


@pytest.fixture(scope="module")
def shared(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """On a PostgreSQL database and a Redis of their own."""
    simulator.reset()
    path = write(tmp_path_factory.mktemp("counts"), config(simulator))
    with fleet(path, "redis", workers=2) as running:
        yield running


@pytest.fixture
def gateways(shared: Fleet) -> list[Gateway]:
    return shared.gateways


def within(counts: Counter[str], share: float, name: str, sigmas: float = 5.0) -> bool:
    """Whether a count is what its share lets expect, chance allowed for."""
    n = counts.total()
    return abs(counts[name] - n * share) <= sigmas * math.sqrt(n * share * (1 - share))


def since(gateways: Sequence[Gateway], model: str, right: bool) -> float:
    """Seconds until every worker assigns (or none does); a look is 40 requests on connections of their own."""
    begun = time.monotonic()
    last_wrong = begun
    while time.monotonic() < max(begun + 1.0, last_wrong + 0.5):
        assert time.monotonic() < begun + 20.0, "it never is everywhere"
        answers = many(gateways, 40, model, clients=4, fresh_after=1)
        if not all((variant_of(answer) is not None) is right for answer in answers):
            last_wrong = time.monotonic()
    return last_wrong - begun


def test_a_definition_and_each_change_of_it_reach_all_workers(gateways: list[Gateway]) -> None:
    body = {"name": "made", **experiment("told")}
    took = {}
    assert post(gateways[0], EXPERIMENTS, body).status == 201
    took["create"] = since(gateways, "told", True)
    assert post(gateways[1], f"{EXPERIMENTS}/made/stop", {}).status == 200
    took["stop"] = since(gateways, "told", False)
    assert post(gateways[0], f"{EXPERIMENTS}/made/start", {}).status == 200
    took["start"] = since(gateways, "told", True)
    gone = call(f"{gateways[1].url}{EXPERIMENTS}/made", method="DELETE", headers=KEY)
    assert gone.status == 200
    took["delete"] = since(gateways, "told", False)
    assert max(took.values()) < APPLIED_S, took
    assert get(gateways[0], f"{EXPERIMENTS}/made").status == 404


def test_counters_equal_the_requests_over_workers_and_gateways(gateways: list[Gateway]) -> None:
    answers = many(gateways, 2_000, "pool")
    assert {answer.status for answer in answers} == {200}
    told = variants_of(answers)
    for gateway in gateways:
        wait_counted(gateway, "pool", told)
    assert told.total() == 2_000
    assert within(told, 0.5, "big")
    shown = results(gateways[0], "pool")
    assert not shown["split"]["mismatch"]
    assert not shown["split"]["deviates"]
    for name, one in shown["variants"].items():
        assert one["metrics"]["error_rate"]["n"] == one["requests"] == told[name]
        assert one["configured_share"] == 0.5


def test_every_gateway_gives_a_session_the_same_variant(gateways: list[Gateway]) -> None:
    one, other = (many([gateway], 60, "pool") for gateway in gateways)
    assert [variant_of(answer) for answer in one] == [variant_of(answer) for answer in other]


def test_a_restart_loses_and_doubles_nothing(
    shared: Fleet, gateways: list[Gateway], simulator: SimulatorProcess, tmp_path: Path
) -> None:
    section = config(simulator)
    section["routeiq"]["state"] = {"flush_s": 600.0}  # only the drain writes
    path = write(tmp_path, section)
    told: Counter[str] = Counter()
    for _ in range(2):
        with start_gateway(path, workers=2, env=shared.env) as third:
            told += variants_of(many([third], 150, "restart"))
            third.terminate()  # at once: what is counted has not been written yet
            assert third.wait() == 0
    told += variants_of(many(gateways, 100, "restart"))
    assert told.total() == 400
    wait_counted(gateways[0], "restart", told)


def test_redis_stopped_meanwhile_loses_and_doubles_nothing(
    shared: Fleet, gateways: list[Gateway]
) -> None:
    redis = shared.redis
    assert redis is not None
    answers: list[Answer] = []
    stop = threading.Event()

    def load(number: int) -> None:
        mine = Client(gateways[number % 2].url)
        with contextlib.closing(mine):
            while not stop.is_set():
                answers.append(mine.post("outage", "hello", {SESSION: f"s{len(answers)}"}))

    clients = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    try:
        for kill in (False, True):
            before = len(answers)
            wait_until(lambda least=before: len(answers) > least + 100, "the load runs", 30.0)  # type: ignore[misc]
            (redis.kill if kill else redis.stop)()
            before = len(answers)
            time.sleep(2.0)
            assert len(answers) > before + 20, "requests go on"
            redis.start()
    finally:
        stop.set()
        for client in clients:
            client.join(60.0)
    assert {answer.status for answer in answers} == {200}
    wait_counted(gateways[0], "outage", variants_of(answers), 30.0)


def test_figures_come_from_what_happened(
    gateways: list[Gateway], simulator: SimulatorProcess
) -> None:
    gateway = gateways[0]
    simulator.behave("delay_ms=120", "sim-large")
    good = many(gateways, 120, "figures")
    simulator.behave("status=400", "sim-large")
    bad = many(gateways, 60, "figures", headers=lambda number: {SESSION: f"b{number}"})
    simulator.mend()
    told = variants_of([*good, *bad])
    failed = [answer for answer in bad if answer.status != 200]
    assert {variant_of(answer) for answer in failed} == {"big"}
    assert {variant_of(answer) for answer in bad if answer.status == 200} == {"control"}
    scores = {"control": 0.25, "big": 0.75}
    rated: Counter[str] = Counter()
    for number, answer in enumerate(good[:40]):
        variant = str(variant_of(answer))
        body = {
            "decision_id": answer.headers["x-routeiq-decision-id"],
            "score": scores[variant],
        }
        if number % 2:  # the first word does not count, the last does
            assert post(gateways[1], "/routeiq/v1/feedback", {**body, "score": 0.0}).status == 202
        assert post(gateways[number % 2], "/routeiq/v1/feedback", body).status == 202
        rated[variant] += 1
    wait_counted(gateway, "figures", told)

    def metrics(variant: str) -> dict[str, Any]:
        found: dict[str, Any] = results(gateway, "figures")["variants"][variant]["metrics"]
        return found

    for variant in scores:
        wait_until(
            lambda one=variant: metrics(one)["quality"]["n"] == rated[one],  # type: ignore[misc]
            "the scores are counted",
        )
        shown = metrics(variant)
        assert shown["quality"]["mean"] == pytest.approx(scores[variant])
        mine = [answer for answer in (*good, *bad) if variant_of(answer) == variant]
        paid = [float(one.headers["x-routeiq-cost-usd"]) for one in mine if one.status == 200]
        assert shown["cost_usd"]["n"] == len(paid)
        assert shown["cost_usd"]["mean"] == pytest.approx(sum(paid) / len(paid), rel=1e-3)
        errors = sum(answer.status != 200 for answer in mine)
        assert shown["error_rate"]["n"] == len(mine)
        assert shown["error_rate"]["mean"] == pytest.approx(errors / len(mine))
    assert metrics("big")["latency_ms"]["mean"] > 120 > 0
    assert metrics("big")["latency_ms"]["n"] == sum(
        answer.status == 200 and variant_of(answer) == "big" for answer in (*good, *bad)
    )
    difference = results(gateway, "figures")["variants"]["big"]["difference"]
    assert difference["error_rate"]["mean"] > 0


@pytest.mark.parametrize(("model", "metric"), [("guarded", "error_rate"), ("scored", "quality")])
def test_a_guard_stops_what_is_shown_to_be_worse(
    gateways: list[Gateway], simulator: SimulatorProcess, model: str, metric: str
) -> None:
    gateway = gateways[0]
    guards = [{"metric": metric, "margin": 0.05}]
    body = {"name": model, **experiment(model, guards=guards)}
    assert post(gateway, EXPERIMENTS, body).status == 201
    since(gateways, model, True)
    if metric == "error_rate":
        simulator.behave("status=500", "sim-large")
    answers = many(gateways, 240, model, headers=lambda number: {SESSION: f"g{number}"})
    if metric == "quality":
        for answer in answers:
            score = 1.0 if variant_of(answer) == "control" else 0.0
            told = {"decision_id": answer.headers["x-routeiq-decision-id"], "score": score}
            assert post(gateway, "/routeiq/v1/feedback", told).status == 202
    path = f"{EXPERIMENTS}/{model}"
    wait_until(lambda: "big" in get(gateway, path).json()["stopped"], "the guard acts", 45.0)
    why = get(gateway, path).json()["stopped"]["big"]["why"]
    assert why.startswith(f"{metric} is worse than control's by ")

    def all_control() -> bool:
        return variants_of(many(gateways, 40, model, clients=4, fresh_after=1)) == {"control": 40}

    wait_until(all_control, "nobody is served the variant any more")
    shown = results(gateway, model)
    assert shown["variants"]["big"]["stopped"]["why"] == why
    assert shown["variants"]["control"]["stopped"] is None
    assert [guard["stopped"] for guard in shown["guards"]] == [True]
    wait_until(
        lambda: results(gateway, model)["variants"]["big"]["requests_after_stop"] > 0,
        "they are counted apart",
    )
    (audited,) = [
        row
        for row in get(gateway, "/routeiq/v1/audit").json()["data"]
        if row["action"] == "experiments.guard" and model in str(row["details"])
    ]
    assert audited["actor"] == "guard"
    simulator.mend()
    assert post(gateway, f"{path}/reset", {}).json()["stopped"] == {}
    wait_until(
        lambda: "big" in variants_of(many(gateways, 40, model, clients=4, fresh_after=1)),
        "after a reset the variant runs again",
    )


def test_a_split_that_is_not_as_configured_is_shown(gateways: list[Gateway]) -> None:
    """Sessions of one variant stay away: what a client that crashes on its answers looks like."""
    first = many(gateways, 400, "skewed")
    named = [number for number, one in enumerate(first) if variant_of(one) == "control"]
    wait_counted(gateways[0], "skewed", variants_of(first))
    assert not results(gateways[0], "skewed")["split"]["mismatch"]
    reset = post(gateways[0], f"{EXPERIMENTS}/skewed/reset", {})
    assert reset.status == 200
    wait_until(lambda: not counted(gateways[0], "skewed"), "the figures are gone")
    # Each subject may have been counted by each of the four workers, so this takes a few.
    many(gateways, len(named), "skewed", headers=lambda n: {SESSION: f"s{named[n]}"})
    shown: list[dict[str, Any]] = []

    def noticed() -> bool:
        shown.append(results(gateways[0], "skewed"))
        return bool(shown[-1]["split"]["mismatch"])

    wait_until(noticed, "the mismatch is shown")
    assert shown[-1]["split"]["deviation"] == pytest.approx(1.0)
    assert shown[-1]["variants"]["big"]["share"] == 0.0
