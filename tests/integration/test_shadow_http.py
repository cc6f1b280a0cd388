"""Shadow experiments over HTTP: variants decide beside the active strategy, and nothing of it is carried out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.experimenting import EXPERIMENTS, HEADER, SESSION, many, record_of, results
from tests.integration.helpers import assert_error, catalogue, post
from tests.support.processes import Gateway, SimulatorProcess, wait_until

ACTIVE = {"a": {"strategy": "smallest"}, "b": {"strategy": "largest"}}


def shadow(model: str, variants: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"models": [model], "mode": "shadow", "variants": variants, **fields}


def config(sim: SimulatorProcess) -> dict[str, Any]:
    section = {
        "strategy": "smallest",
        "groups": {name: {"models": ["sim-nano", "sim-large"]} for name in ("pair", "late", "free")}
        | {"mixed": {"models": ["sim-nano", "sim-medium"]}},
        "experiments": {
            "beside": shadow("pair", ACTIVE),
            "elsewhere": shadow("sim-small", {"big": {"model": "sim-large"}}),
            "impossible": shadow("free", {"free": {"profile": "free"}}),
            "live": {
                "models": ["mixed"],
                "subject": ["request"],
                "variants": {"big": {"model": "sim-large"}},
            },
            "under-live": shadow("mixed", {"dear": {"strategy": "largest"}}),
        },
    }
    return {"model_list": catalogue(sim.url), "routeiq": section}


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(config(simulator), workers=2)


def executed(sim: SimulatorProcess) -> Counter[str]:
    return Counter(str(one["json"]["model"]) for one in sim.requests())


def test_nothing_but_the_active_choice_is_carried_out(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    answers = many([gateway], 60, "pair")
    assert {answer.status for answer in answers} == {200}
    assert executed(sim) == {"sim-nano": 60}
    assert not any(HEADER in answer.headers for answer in answers)
    assert {answer.headers["x-routeiq-strategy"] for answer in answers} == {"smallest"}
    wait_until(
        lambda: results(gateway, "beside")["variants"]["a"]["requests"] == 60, "all are counted"
    )
    shown = results(gateway, "beside")
    assert shown["mode"] == "shadow"
    same, other = shown["variants"]["a"], shown["variants"]["b"]
    assert (same["requests"], same["errors"], same["agreement"]) == (60, 0, 1.0)
    assert (other["requests"], other["errors"], other["agreement"]) == (60, 0, 0.0)
    assert same["predicted_cost_usd"] == pytest.approx(same["predicted_cost_usd_active"], rel=0.1)
    assert other["predicted_cost_usd"] > 10 * other["predicted_cost_usd_active"] > 0


def test_the_record_has_what_the_variants_would_have_done(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    answers = many([gateway], 3, "pair", headers=lambda _: {SESSION: "talk"}, clients=1)
    record = record_of(gateway, answers[-1])  # a later turn: the variant says what it would choose
    assert record["model"] == "sim-nano"
    assert "experiment" not in record
    told = {one["variant"]: one for one in record["shadow"]}
    assert set(told) == {"a", "b"}
    wanted = {"experiment": "beside", "model": "sim-large", "strategy": "largest", "agrees": False}
    assert wanted.items() <= told["b"].items()
    assert told["b"]["cost_usd"] > told["a"]["cost_usd"] > 0
    assert {"model": "sim-nano", "strategy": "smallest", "agrees": True}.items() <= told[
        "a"
    ].items()


def test_a_shadow_that_would_answer_by_another_model(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    (answer,) = many([gateway], 1, "sim-small")
    assert executed(sim) == {"sim-small": 1}
    (told,) = record_of(gateway, answer)["shadow"]
    assert (told["model"], told["agrees"]) == ("sim-large", False)


def test_a_shadow_that_cannot_decide_is_an_error_of_its_own(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    answers = many([gateway], 8, "free")
    assert {answer.status for answer in answers} == {200}
    (told,) = record_of(gateway, answers[0])["shadow"]
    assert told["error"]
    wait_until(
        lambda: results(gateway, "impossible")["variants"]["free"]["errors"] == 8, "it is counted"
    )
    assert results(gateway, "impossible")["variants"]["free"]["agreement"] is None


def test_a_shadow_sees_what_was_asked_for_though_a_live_experiment_changed_it(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    (answer,) = many([gateway], 1, "mixed")
    assert executed(sim) == {"sim-large": 1}
    record = record_of(gateway, answer)
    assert (record["experiment"], record["requested"]) == ("live", "mixed")
    (told,) = record["shadow"]
    assert (told["experiment"], told["model"]) == ("under-live", "sim-medium")


def test_a_shadow_made_by_the_api_starts_and_stops(gateway: Gateway, sim: SimulatorProcess) -> None:
    body = {"name": "late", **shadow("late", {"dear": {"strategy": "largest"}})}
    assert post(gateway, EXPERIMENTS, body).status == 201

    def watched() -> bool:
        (answer,) = many([gateway], 1, "late")
        return "shadow" in record_of(gateway, answer)

    wait_until(lambda: all(watched() for _ in range(6)), "both workers decide beside", 20.0)
    assert post(gateway, f"{EXPERIMENTS}/late/stop", {}).status == 200
    wait_until(lambda: not any(watched() for _ in range(6)), "no worker does any more", 20.0)
    assert set(executed(sim)) == {"sim-nano"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"guards": [{"metric": "error_rate"}]}, "guard"),
        ({"variants": {"a": {}}}, "changes something"),
        ({"variants": {"a": {"strategy": "judge"}}}, "shadow"),
    ],
)
def test_a_shadow_that_makes_no_sense_is_refused(
    gateway: Gateway, fields: dict[str, Any], says: str
) -> None:
    body = {"name": "x", **shadow("pair", ACTIVE), **fields}
    assert_error(post(gateway, EXPERIMENTS, body), 400, says=says)
