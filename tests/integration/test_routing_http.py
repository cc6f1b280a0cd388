"""Which model answers, asked and seen over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    EASY,
    HARD,
    TOOL,
    answered_by,
    assert_error,
    catalogue,
    chat,
    decision_of,
    entry,
    get,
    names,
    post,
    received,
    user,
)
from tests.support.processes import Gateway, SimulatorProcess

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]


def config(sim_url: str) -> dict[str, Any]:
    """The catalogue, an alias of each kind, groups, a wildcard, weights, orders and tags."""

    def tagged(group: str, tag: str, ident: str, **params: Any) -> dict[str, Any]:
        return entry(group, sim_url, info={"id": ident}, tags=[tag] if tag else [], **params)

    return {
        "model_list": [
            *catalogue(sim_url),
            entry("openai/*", sim_url, "*", info={"id": "wild"}),
            tagged("tiered", "premium", "tiered-premium"),
            tagged("tiered", "default", "tiered-default"),
            entry("ordered", sim_url, info={"id": "second"}, order=2),
            entry("ordered", sim_url, info={"id": "first"}, order=1),
            entry("heavy", sim_url, info={"id": "heavy-9"}, weight=9),
            entry("heavy", sim_url, info={"id": "heavy-1"}, weight=1),
            entry("heavy", sim_url, info={"id": "heavy-0"}, weight=0),
        ],
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "enable_tag_filtering": True,
            "model_group_alias": {
                "gpt-small": "sim-small",
                "secret": {"model": "sim-large", "hidden": True},
            },
        },
        "routeiq": {
            "groups": {
                "auto": {"models": ["sim-nano", "sim-small", "sim-medium", "sim-large"]},
                "cheap": {"models": ["sim-[ns]*"], "profile": "eco"},
            },
            "profiles": {"tiny": {"models": ["sim-nano"]}},
            "upstreams": {"max_connections": 50},
        },
    }


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(config(simulator.url))


def price_of(model: str) -> int:
    return ["sim-nano", "sim-small", "sim-medium", "sim-large"].index(model)


def test_an_easy_prompt_goes_to_a_cheaper_model_than_a_hard_one(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    easy, hard = chat(gateway, "auto", EASY), chat(gateway, "auto", HARD)
    assert price_of(answered_by(easy)) < price_of(answered_by(hard))
    assert [one["json"]["model"] for one in sim.requests()] == [
        answered_by(easy),
        answered_by(hard),
    ]
    assert "difficulty" in hard.headers["x-routeiq-reason"]


@pytest.mark.parametrize("how", ["header", "suffix", "bare"])
@pytest.mark.parametrize(("profile", "expected"), [("premium", "sim-large"), ("tiny", "sim-nano")])
def test_profiles(gateway: Gateway, how: str, profile: str, expected: str) -> None:
    model = {"header": "auto", "suffix": f"auto:{profile}", "bare": profile}[how]
    headers = {"x-routeiq-profile": profile} if how == "header" else {}
    answer = chat(gateway, model, EASY, headers=headers)
    assert answered_by(answer) == expected
    assert decision_of(gateway, answer)["profile"] == profile


def test_eco_is_no_dearer_than_auto(gateway: Gateway) -> None:
    auto, eco = chat(gateway, "auto", HARD), chat(gateway, "auto:eco", HARD)
    assert price_of(answered_by(eco)) <= price_of(answered_by(auto))


@pytest.mark.parametrize(
    ("model", "headers", "param"),
    [("auto:nope", {}, "model"), ("auto", {"x-routeiq-profile": "nope"}, "x-routeiq-profile")],
)
def test_an_unknown_profile_is_named(
    gateway: Gateway, model: str, headers: dict[str, str], param: str
) -> None:
    answer = chat(gateway, model, headers=headers)
    assert_error(answer, 400, "invalid_request", says="profile 'nope' does not exist", param=param)


@pytest.mark.parametrize(
    ("hint", "expected", "followed"),
    [("sim-large", "sim-large", True), ("sim-embed", None, False), ("no-such-model", None, False)],
)
def test_hint(gateway: Gateway, hint: str, expected: str | None, followed: bool) -> None:
    usual = answered_by(chat(gateway, "auto", EASY))
    answer = chat(gateway, "auto", EASY, headers={"x-routeiq-hint": hint})
    assert answered_by(answer) == (expected or usual)
    assert decision_of(gateway, answer)["hint_followed"] is followed


def test_a_named_model_wins_over_a_hint(gateway: Gateway) -> None:
    answer = chat(gateway, "sim-small", headers={"x-routeiq-hint": "sim-large"})
    assert answered_by(answer) == "sim-small"


def test_groups_choose_among_their_members(gateway: Gateway) -> None:
    answer = chat(gateway, "cheap", HARD)
    kept = decision_of(gateway, answer)
    assert kept["profile"] == "eco"
    assert set(names(kept["candidates"], "model")) == {"sim-nano", "sim-small"}
    assert answered_by(chat(gateway, "cheap:premium", HARD)) == "sim-small"


@pytest.mark.parametrize(
    ("alias", "model", "listed"), [("gpt-small", "sim-small", True), ("secret", "sim-large", False)]
)
def test_aliases(
    gateway: Gateway, sim: SimulatorProcess, alias: str, model: str, listed: bool
) -> None:
    assert answered_by(chat(gateway, alias)) == model
    assert received(sim)["json"]["model"] == model
    assert (alias in names(get(gateway, "/v1/models").json()["data"], "id")) is listed
    assert get(gateway, f"/v1/models/{alias}").status == (200 if listed else 404)


def test_wildcard_passes_the_name_on(gateway: Gateway, sim: SimulatorProcess) -> None:
    answer = chat(gateway, "openai/sim-large")
    assert answered_by(answer) == "openai/sim-large"
    assert answer.headers["x-routeiq-deployment"] == "wild"
    assert received(sim)["json"]["model"] == "sim-large"
    assert "openai/*" not in names(get(gateway, "/v1/models").json()["data"], "id")


def test_an_unknown_model_of_the_wildcards_provider_is_not_our_credentials(
    gateway: Gateway,
) -> None:
    answer = chat(gateway, "openai/no-such-model")
    assert_error(answer, 502, "upstream_error", says="does not know the model of deployment 'wild'")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("premium", "tiered-premium"),
        ("other,premium", "tiered-premium"),
        ("other", "tiered-default"),
        ("", "tiered-default"),
    ],
)
def test_tag_filtering(gateway: Gateway, tags: str, expected: str) -> None:
    for _ in range(4):
        answer = chat(gateway, "tiered", headers={"x-routeiq-tags": tags})
        assert answer.headers["x-routeiq-deployment"] == expected


def test_order_is_kept(gateway: Gateway) -> None:
    assert {chat(gateway, "ordered").headers["x-routeiq-deployment"] for _ in range(8)} == {"first"}


def test_weights_are_shares(gateway: Gateway) -> None:
    seen = Counter(chat(gateway, "heavy").headers["x-routeiq-deployment"] for _ in range(120))
    assert seen["heavy-0"] == 0
    assert seen["heavy-1"] < 40 < seen["heavy-9"]


@pytest.mark.parametrize(
    ("content", "fields", "out"),
    [
        (EASY, {"tools": [TOOL]}, {"sim-nano"}),
        (IMAGE, {}, {"sim-nano", "sim-small"}),
        (EASY, {"response_format": SCHEMA}, {"sim-nano"}),
        ("word " * 9_000, {}, {"sim-nano"}),
        (EASY, {"max_tokens": 9_000}, {"sim-nano"}),
    ],
    ids=["tools", "vision", "json_schema", "context", "context-by-output"],
)
def test_models_that_cannot_are_excluded(
    gateway: Gateway, content: Any, fields: dict[str, Any], out: set[str]
) -> None:
    kept = decision_of(gateway, chat(gateway, "auto", content, **fields))
    assert set(names(kept["exclusions"], "deployment")) == out
    assert not out & set(names(kept["candidates"], "deployment"))
    assert all(one["reason"] for one in kept["exclusions"])


def test_a_named_model_that_cannot_says_what_is_missing(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    assert_error(chat(gateway, "sim-nano", tools=[TOOL]), 400, "invalid_request", says="tools")
    too_long = chat(gateway, "sim-nano", "word " * 40_000)
    assert_error(too_long, 400, "context_length_exceeded", says="8192")
    assert sim.requests() == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"model": "auto", "messages": [user(EASY)]}, {}),
        ({"model": "auto", "messages": [user(HARD)]}, {"x-routeiq-profile": "eco"}),
        ({"model": "auto", "messages": [user(HARD)], "tools": [TOOL]}, {}),
        ({"model": "auto", "messages": [user(EASY)]}, {"x-routeiq-hint": "sim-medium"}),
        ({"model": "ordered", "messages": [user(EASY)]}, {}),
        ({"model": "tiered", "messages": [user(EASY)]}, {"x-routeiq-tags": "premium"}),
        ({"model": "openai/sim-small", "messages": [user(EASY)]}, {}),
    ],
)
def test_the_dry_run_is_what_is_then_carried_out(
    gateway: Gateway, sim: SimulatorProcess, body: dict[str, Any], headers: dict[str, str]
) -> None:
    dry = post(gateway, "/routeiq/v1/route", body, headers).json()
    assert sim.requests() == []
    answer = post(gateway, "/v1/chat/completions", body, headers)
    kept = decision_of(gateway, answer)
    assert (dry["model"], dry["deployment"]) == (answered_by(answer), kept["deployment"])
    for name in ("requested", "strategy", "profile", "reason", "hint_followed", "exclusions"):
        assert dry[name] == kept[name], name
    assert names(dry["candidates"], "score") == names(kept["candidates"], "score")


def test_the_dry_run_says_why_nothing_can_answer(gateway: Gateway) -> None:
    body = {"model": "sim-nano", "messages": [user(EASY)], "tools": [TOOL]}
    assert_error(post(gateway, "/routeiq/v1/route", body), 400, says="tools")


def test_explain_says_what_the_gateway_does(
    gateway: Gateway, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(orjson.dumps(config(simulator.url)))
    command = [sys.executable, "-m", "routeiq", "explain", "--config", str(path), "--json"]
    done = subprocess.run(
        [*command, "--profile", "eco", HARD],
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    said = orjson.loads(done.stdout)
    answer = chat(gateway, "auto", HARD, headers={"x-routeiq-profile": "eco"})
    kept = decision_of(gateway, answer)
    assert (said["model"], said["reason"]) == (answered_by(answer), kept["reason"])
    assert names(said["candidates"], "model") == names(kept["candidates"], "model")


def test_without_tag_filtering_tags_steer_nothing(
    start: StartGateway, simulator: SimulatorProcess
) -> None:
    plain = config(simulator.url)
    plain["router_settings"]["enable_tag_filtering"] = False
    plain["router_settings"].pop("routing_strategy")
    other = start(plain)
    seen = {
        chat(other, "tiered", headers={"x-routeiq-tags": "premium"}).headers["x-routeiq-deployment"]
        for _ in range(4)
    }
    assert seen == {"tiered-premium", "tiered-default"}
    in_turn = [chat(other, "heavy").headers["x-routeiq-deployment"] for _ in range(6)]
    assert Counter(in_turn) == {"heavy-9": 2, "heavy-1": 2, "heavy-0": 2}, "round-robin by default"
