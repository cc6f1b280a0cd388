"""Budgets over HTTP: what is spent meets the target, by the gateway's own figures and the provider's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from routeiq.simulator.sample import prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import catalogue, chat
from tests.integration.learned import report, together, usd
from tests.support.http import Answer
from tests.support.processes import MASTER_KEY, Gateway, SimulatorProcess

REQUESTS = 600
"""Four of the controller's windows: what it saves while it knows nothing is spent by then."""
OTHER = "sk-other-admin"
TARGET = 1.2e-4
HOURLY = {"rich": 1000.0, "poor": 1e-9}


@pytest.fixture(scope="module")
def budgeted(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """Profiles with budgets of all kinds, and the two extremes without."""
    plain: dict[str, Any] = {"models": ["sim-nano", "sim-small", "sim-medium", "sim-large"]}
    budgets: dict[str, dict[str, Any]] = {
        "mean": {"usd_per_request": TARGET},
        "mean-stingy": {"usd_per_request": 1.5e-5},
        "each": {"usd_per_request": TARGET, "scope": "key"},
        **{name: {"usd": amount, "per": "hour"} for name, amount in HOURLY.items()},
    }
    profiles = {
        name: {**plain, "cost_weight": 0.0, "budget": budget} for name, budget in budgets.items()
    }
    profiles |= {
        "best": {**plain, "cost_weight": 0.0},
        "cheapest": {**plain, "cost_weight": 1e9},
    }
    return start(
        {"model_list": catalogue(simulator.url), "routeiq": {"profiles": profiles}},
        env={"ROUTEIQ_ADMIN_KEYS": OTHER},
    )


def served(
    gateway: Gateway, profile: str, count: int = REQUESTS, seed: int = 1, key: str = MASTER_KEY
) -> Sequence[Answer]:
    """Answers to `count` prompts of all kinds, eight at a time."""
    headers = {"x-routeiq-profile": profile, "authorization": f"Bearer {key}"}
    answers = together(
        lambda text: chat(gateway, "auto", text, headers=headers), prompts(count, seed)
    )
    assert {answer.status for answer in answers} == {200}
    return answers


def mean(answers: Sequence[Answer]) -> float:
    return sum(map(usd, answers)) / len(answers)


def state(gateway: Gateway, profile: str, scope: str = "") -> dict[str, Any]:
    found: dict[str, Any] = report(gateway)["budgets"][profile][scope]
    return found


def test_the_mean_cost_of_a_request_meets_the_target(budgeted: Gateway) -> None:
    cheapest, best = mean(served(budgeted, "cheapest", 40)), mean(served(budgeted, "best", 40))
    assert cheapest < 0.5 * TARGET
    assert 0.5 * best > TARGET
    answers = served(budgeted, "mean")
    assert mean(answers) == pytest.approx(TARGET, rel=0.05)
    assert len({answer.headers["x-routeiq-model"] for answer in answers}) >= 2


def test_another_target_gets_another_mean(budgeted: Gateway) -> None:
    assert mean(served(budgeted, "mean-stingy")) == pytest.approx(1.5e-5, rel=0.05)


def test_the_admin_api_shows_what_was_spent(budgeted: Gateway) -> None:
    before = state(budgeted, "mean")
    answers = served(budgeted, "mean", 20, seed=4)
    after = state(budgeted, "mean")
    assert after["target_usd_per_request"] == TARGET
    assert after["requests"] - before["requests"] == len(answers)
    spent = after["total_spent_usd"] - before["total_spent_usd"]
    assert spent == pytest.approx(sum(map(usd, answers)), rel=1e-6)
    assert after["cost_weight"] > 0.0
    assert after["period_s"] is None


def test_each_key_has_a_budget_of_its_own(budgeted: Gateway) -> None:
    served(budgeted, "each", 60)
    alone = state(budgeted, "each", "master")
    assert set(report(budgeted)["budgets"]["each"]) == {"master"}
    mine = served(budgeted, "each", seed=2, key=OTHER)
    both = report(budgeted)["budgets"]["each"]
    assert set(both) == {"master", "admin-1"}
    assert both["master"] == alone
    assert both["admin-1"]["requests"] == len(mine)
    assert both["admin-1"]["total_spent_usd"] == pytest.approx(sum(map(usd, mine)), rel=1e-6)
    assert mean(mine) == pytest.approx(TARGET, rel=0.05)


def test_an_amount_that_is_spent_leaves_the_cheapest_model(budgeted: Gateway) -> None:
    rich, poor = served(budgeted, "rich", 30), served(budgeted, "poor", 30)
    models = [answer.headers["x-routeiq-model"] for answer in poor[8:]]
    assert set(models) == {"sim-nano"}
    assert mean(rich) > 10 * mean(poor)
    for name, amount in HOURLY.items():
        found = state(budgeted, name)
        assert (found["usd"], found["period_s"]) == (amount, 3600.0)
    assert state(budgeted, "poor")["spent_usd"] > HOURLY["poor"]


def test_a_failure_costs_the_budget_nothing(budgeted: Gateway, sim: SimulatorProcess) -> None:
    before = state(budgeted, "rich")
    sim.behave("status=400")
    headers = {"x-routeiq-profile": "rich"}
    statuses = {chat(budgeted, "auto", "no", headers=headers).status for _ in range(3)}
    after = state(budgeted, "rich")
    assert statuses == {400}
    assert after["requests"] == before["requests"] + 3
    assert after["total_spent_usd"] == pytest.approx(before["total_spent_usd"], rel=1e-9)


def test_a_stream_is_charged_what_it_really_cost(budgeted: Gateway) -> None:
    before = state(budgeted, "mean")
    headers = {"x-routeiq-profile": "mean"}
    answer = chat(
        budgeted,
        "auto",
        "Stream this.",
        headers=headers,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert answer.events()[-1] == "[DONE]"
    spent = state(budgeted, "mean")["total_spent_usd"] - before["total_spent_usd"]
    prices = {one["model_name"]: one["model_info"] for one in catalogue("")}
    found = prices[answer.headers["x-routeiq-model"]]
    chunks = map(json.loads, answer.events()[:-1])
    usage = next(one["usage"] for one in chunks if one.get("usage"))
    cost = (
        usage["prompt_tokens"] * found["input_cost_per_token"]
        + usage["completion_tokens"] * found["output_cost_per_token"]
    )
    assert spent == pytest.approx(cost, rel=1e-3)


def test_a_model_that_is_asked_for_by_name_is_no_part_of_a_budget(budgeted: Gateway) -> None:
    before = report(budgeted)["budgets"]
    for model in ("sim-nano", "sim-large"):
        chat(budgeted, model, "By name.", headers={"x-routeiq-profile": "mean"})
    assert report(budgeted)["budgets"] == before
