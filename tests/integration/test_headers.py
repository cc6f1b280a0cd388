"""Every response header, from what was carried out; and the request headers that are understood."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    KEY,
    answered_by,
    assert_error,
    catalogue,
    chat,
    decision_of,
    entry,
    get,
    log_lines,
    post,
    received,
    user,
)
from tests.support.http import Answer, call
from tests.support.processes import Gateway, SimulatorProcess, wait_until

NEVER = {"x-simulator-quality", "x-simulator-cost-usd", "server", "x-ratelimit-limit"}
OPERATIONS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "sim-small", "messages": [user("hello")]},
    "/v1/completions": {"model": "sim-small", "prompt": "hello"},
    "/v1/responses": {"model": "sim-small", "input": "hello"},
    "/v1/embeddings": {"model": "sim-embed", "input": "hello"},
}
FAILING = {
    "first": "sim-small#status=500",
    "broken": "sim-small#status=500",
    "spare": "sim-large",
}


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """The catalogue, and groups that fail over."""
    return start(
        {
            "model_list": [
                *catalogue(simulator.url),
                *(
                    entry(group, simulator.url, model, info={"id": f"{group}-1"})
                    for group, model in FAILING.items()
                ),
            ],
            "router_settings": {"num_retries": 0, "fallbacks": [{"first": ["spare"]}]},
            "routeiq": {"prices": {"spare": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}}},
        }
    )


def timing(answer: Answer) -> dict[str, float]:
    """`Server-Timing` as milliseconds."""
    parts = answer.headers["server-timing"].split(", ")
    found = [re.fullmatch(r"(\w+);dur=([0-9.]+)", part) for part in parts]
    return {one[1]: float(one[2]) for one in found if one}


@pytest.mark.parametrize("path", OPERATIONS)
@pytest.mark.parametrize("prefixed", [True, False], ids=["v1", "without-v1"])
def test_headers_say_what_the_simulator_received(
    gateway: Gateway, sim: SimulatorProcess, path: str, prefixed: bool
) -> None:
    body = OPERATIONS[path]
    answer = post(gateway, path if prefixed else path.removeprefix("/v1"), body)
    assert answered_by(answer) == answer.headers["x-routeiq-deployment"] == body["model"]
    asked = received(sim)
    assert asked["json"]["model"] == body["model"]
    assert asked["path"] == path
    assert answer.headers["x-routeiq-attempts"] == "1"
    assert answer.headers["x-routeiq-strategy"] == "round-robin"
    assert answer.headers["x-routeiq-reason"]
    assert answer.headers["x-routeiq-cache"] == "bypass"
    assert answer.headers["cache-status"] == "RouteIQ; fwd=bypass"
    assert not NEVER & answer.headers.keys()


def test_headers_after_a_fallback_are_those_of_what_answered(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    answer = chat(gateway, "first")
    assert answered_by(answer) == "spare"
    assert answer.headers["x-routeiq-deployment"] == "spare-1"
    assert answer.headers["x-routeiq-attempts"] == "2"
    assert "fallback from first-1 (status_500)" in answer.headers["x-routeiq-reason"]
    assert [one["json"]["model"] for one in sim.requests()] == list(FAILING.values())[::2]
    usage = answer.json()["usage"]
    cost = usage["prompt_tokens"] * 3e-6 + usage["completion_tokens"] * 15e-6
    assert float(answer.headers["x-routeiq-cost-usd"]) == pytest.approx(cost, rel=1e-9)
    kept = decision_of(gateway, answer)
    assert (kept["requested"], kept["model"], kept["deployment"]) == ("first", "spare", "spare-1")
    assert [(one["deployment"], one["status"]) for one in kept["attempts_made"]] == [
        ("first-1", 500),
        ("spare-1", 200),
    ]


def test_a_failure_has_the_headers_of_the_decision_but_no_model(gateway: Gateway) -> None:
    answer = chat(gateway, "broken")
    assert_error(answer, 502, "upstream_error")
    assert answer.headers["x-routeiq-attempts"] == "1"
    assert "x-routeiq-model" not in answer.headers
    assert "x-routeiq-cost-usd" not in answer.headers
    kept = decision_of(gateway, answer)
    assert (kept["outcome"], kept["status"], kept["error"]) == ("error", 502, "upstream_error")


@pytest.mark.parametrize("stream", [False, True])
def test_the_decision_id_resolves_to_the_same_facts(gateway: Gateway, stream: bool) -> None:
    answer = chat(gateway, "auto", "What is the capital of France?", stream=stream)
    kept, head = decision_of(gateway, answer), answer.headers
    assert kept["decision_id"] == head["x-routeiq-decision-id"]
    assert kept["request_id"] == head["x-request-id"]
    assert kept["model"] == head["x-routeiq-model"]
    assert kept["deployment"] == head["x-routeiq-deployment"]
    assert kept["strategy"] == head["x-routeiq-strategy"] == "prior"
    assert kept["reason"] == head["x-routeiq-reason"]
    assert kept["attempts"] == int(head["x-routeiq-attempts"]) == len(kept["attempts_made"])
    assert (kept["status"], kept["outcome"], kept["stream"]) == (200, "success", stream)
    assert kept["candidates"][0]["deployment"] == kept["deployment"]
    if not stream:
        assert float(head["x-routeiq-cost-usd"]) == pytest.approx(kept["cost_usd"], abs=1e-12)
    latest = get(gateway, "/routeiq/v1/decisions?limit=1").json()["data"]
    assert [one["decision_id"] for one in latest] == [kept["decision_id"]]


@pytest.mark.parametrize(
    ("path", "price"), [("/v1/chat/completions", (0.15, 0.6)), ("/v1/embeddings", (0.02, 0.0))]
)
def test_cost_is_usage_times_price(gateway: Gateway, path: str, price: tuple[float, float]) -> None:
    answer = post(gateway, path, OPERATIONS[path])
    usage = answer.json()["usage"]
    expected = usage["prompt_tokens"] * price[0] + usage.get("completion_tokens", 0) * price[1]
    assert float(answer.headers["x-routeiq-cost-usd"]) == pytest.approx(expected / 1e6, rel=1e-6)
    assert decision_of(gateway, answer)["cost_usd"] == pytest.approx(expected / 1e6, rel=1e-12)


def test_overhead_and_phases_add_up(gateway: Gateway) -> None:
    answer = chat(gateway, max_tokens=3)
    phases = timing(answer)
    assert phases.keys() == {"auth", "parse", "route", "upstream", "total"}
    own = phases["auth"] + phases["parse"] + phases["route"]
    overhead = float(answer.headers["x-routeiq-overhead-ms"])
    assert own <= overhead + 0.01
    assert overhead == pytest.approx(phases["total"] - phases["upstream"], abs=0.01)
    assert 0 < phases["total"] < 5_000


def test_waiting_for_the_provider_is_not_overhead(gateway: Gateway, sim: SimulatorProcess) -> None:
    sim.behave("delay_ms=300", "sim-small")
    answer = chat(gateway)
    assert timing(answer)["upstream"] >= 290
    assert float(answer.headers["x-routeiq-overhead-ms"]) < 250


@pytest.mark.parametrize("given", ["abc-123", "x" * 128, "!#$~"])
def test_request_id_is_kept(gateway: Gateway, given: str) -> None:
    answer = chat(gateway, headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given
    assert decision_of(gateway, answer)["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é"])
def test_request_id_is_replaced(gateway: Gateway, given: str) -> None:
    answer = chat(gateway, headers={"x-request-id": given})
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", made)


def test_every_answer_has_a_request_id(gateway: Gateway) -> None:
    for path in ("/_health/live", "/v1/models", "/nowhere", "/routeiq/v1/status"):
        assert call(gateway.url + path).headers["x-request-id"]


@pytest.mark.parametrize("name", ["x-routeiq-tags", "x-litellm-tags"])
def test_tags_by_header(gateway: Gateway, name: str) -> None:
    answer = chat(gateway, headers={name: " blue, eu ,,"})
    assert decision_of(gateway, answer)["tags"] == ["blue", "eu"]


def test_tags_by_metadata(gateway: Gateway, sim: SimulatorProcess) -> None:
    metadata = {"tags": ["green", 7, ""], "other": "x"}
    answer = chat(gateway, metadata=metadata, headers={"x-routeiq-tags": "blue"})
    assert decision_of(gateway, answer)["tags"] == ["blue", "green"]
    assert received(sim)["json"]["metadata"] == metadata


@pytest.mark.parametrize(
    ("headers", "fields", "expected"),
    [
        ({"x-routeiq-session-id": "s1"}, {}, "s1"),
        ({"x-litellm-session-id": "s2"}, {}, "s2"),
        ({}, {"metadata": {"session_id": "s3"}}, "s3"),
        ({}, {"metadata": {"conversation_id": "s4"}}, "s4"),
        ({}, {"metadata": {"thread_id": "s5"}}, "s5"),
        ({"x-routeiq-session-id": "s6"}, {"metadata": {"session_id": "no"}}, "s6"),
        ({}, {"metadata": {"session_id": 7}}, None),
        ({}, {}, None),
    ],
)
def test_session_id(
    gateway: Gateway, headers: dict[str, str], fields: dict[str, Any], expected: str | None
) -> None:
    answer = chat(gateway, headers=headers, **fields)
    assert decision_of(gateway, answer)["session_id"] == expected


def test_session_id_of_responses(gateway: Gateway) -> None:
    body = {"model": "sim-small", "input": "hello", "previous_response_id": "resp_9"}
    assert decision_of(gateway, post(gateway, "/v1/responses", body))["session_id"] == "resp_9"


def test_litellms_trace_id_reaches_the_record_and_the_log(gateway: Gateway) -> None:
    answer = chat(gateway, headers={"x-litellm-trace-id": "trace-7"})
    assert decision_of(gateway, answer)["trace_id"] == "trace-7"
    request_id = answer.headers["x-request-id"]

    def logged() -> bool:
        return any(
            line.get("request_id") == request_id and line.get("trace_id") == "trace-7"
            for line in log_lines(gateway)
        )

    wait_until(logged, "the line with the trace id")


def test_a_stream_is_not_buffered_by_proxies(gateway: Gateway) -> None:
    head = chat(gateway, stream=True).headers
    assert head["content-type"].startswith("text/event-stream")
    assert (head["cache-control"], head["x-accel-buffering"]) == ("no-cache", "no")
    assert "content-length" not in head


def test_keys_are_told_apart_in_the_record(gateway: Gateway) -> None:
    assert decision_of(gateway, chat(gateway))["key"] == "master"
    assert KEY["authorization"] not in get(gateway, "/routeiq/v1/decisions").body.decode()


@pytest.mark.parametrize(("asked", "told"), [("1", True), ("true", True), ("0", False)])
def test_a_client_may_ask_for_scores_and_propensity(
    gateway: Gateway, asked: str, told: bool
) -> None:
    answer = chat(gateway, "auto", "Hi", headers={"x-routeiq-explain": asked})
    assert ("x-routeiq-scores" in answer.headers) is told
    if told:
        first = answer.headers["x-routeiq-scores"].split("=")[0]
        assert first == answer.headers["x-routeiq-model"]
        assert answer.headers["x-routeiq-propensity"] == "1"
