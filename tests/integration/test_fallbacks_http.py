"""Fallbacks of every kind, and what each failure of a provider looks like to a client."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    UPSTREAM_KEY,
    answered_by,
    assert_discreet,
    assert_error,
    chat,
    decision_of,
    entry,
    names,
)
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess

FAULTS = {
    "malformed": "malformed",
    "html": "html",
    "html-502": "html;status=502",
    "cut": "cut=20",
    "reset": "reset",
    "close": "close",
    "status-500": "status=500",
    "status-503": "status=503",
    "oversize": "oversize=70000",
    "unauthorized": "status=401",
    "forbidden": "status=403",
    "missing": "status=404",
}
AFTER_THE_HEAD = ("malformed", "cut", "oversize")  # of a stream
ROUTER = {
    "num_retries": 0,
    "fallbacks": [{"general": ["good"]}, {"chain": ["status-500", "unauthorized", "good"]}],
    "context_window_fallbacks": [{"short": ["good"]}, {"known-short": ["good"]}],
    "content_policy_fallbacks": [{"prude": ["good"]}],
}


def config(sim_url: str) -> dict[str, Any]:
    deployments = {
        **{name: f"sim-small#{fault}" for name, fault in FAULTS.items()},
        "general": "sim-small#status=500",
        "chain": "sim-small#status=503",
        "short": "sim-nano",
        "prude": "sim-small#content_filter=400",
        "prude-alone": "sim-small#content_filter=400",
        "picky": "sim-small#status=400",
        "busy": "sim-small#status=429;retry_after=7",
        "slow-start": "sim-small#hang",
        "good": "sim-large",
    }
    return {
        "model_list": [
            entry(group, sim_url, model, info={"id": f"{group}-1"})
            for group, model in deployments.items()
        ]
        + [entry("known-short", sim_url, info={"id": "known-short-1", "max_input_tokens": 500})],
        "router_settings": ROUTER,
        "routeiq": {
            "upstreams": {"max_response_bytes": 50_000, "first_byte_timeout_s": 0.5},
            "resilience": {"backoff_max_s": 1.0},
        },
    }


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(config(simulator.url), env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"})


def tried(gateway: Gateway, answer: Answer) -> list[str]:
    return names(decision_of(gateway, answer)["attempts_made"], "deployment")


@pytest.mark.parametrize("stream", [False, True])
def test_general_fallback(gateway: Gateway, stream: bool) -> None:
    answer = chat(gateway, "general", stream=stream)
    assert answered_by(answer) == "good"
    assert tried(gateway, answer) == ["general-1", "good-1"]


def test_fallbacks_are_tried_in_their_order(gateway: Gateway) -> None:
    answer = chat(gateway, "chain")
    assert answered_by(answer) == "good"
    assert tried(gateway, answer) == ["chain-1", "status-500-1", "unauthorized-1", "good-1"]


def test_context_window_fallback_only_for_what_is_too_long(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    assert answered_by(chat(gateway, "short", "hello")) == "short"
    answer = chat(gateway, "short", "word " * 8_000)
    assert answered_by(answer) == "good"
    assert tried(gateway, answer) == ["short-1", "good-1"]


def test_a_window_that_is_known_costs_no_attempt(gateway: Gateway) -> None:
    assert answered_by(chat(gateway, "known-short", "hello")) == "known-short"
    answer = chat(gateway, "known-short", "word " * 8_000)
    assert answered_by(answer) == "good"
    assert tried(gateway, answer) == ["good-1"]


def test_content_policy_fallback(gateway: Gateway) -> None:
    answer = chat(gateway, "prude")
    assert answered_by(answer) == "good"
    assert tried(gateway, answer) == ["prude-1", "good-1"]


def test_content_policy_without_fallback_passes_the_providers_words(gateway: Gateway) -> None:
    error = assert_error(chat(gateway, "prude-alone"), 400, "content_policy_violation")
    assert "safety system" in error["message"]


def test_default_fallbacks_and_a_limit_on_their_number(
    start: StartGateway, simulator: SimulatorProcess
) -> None:
    plain = config(simulator.url)
    plain["router_settings"] = {
        "num_retries": 0,
        "default_fallbacks": ["status-503", "good"],
        "fallbacks": [{"general": ["unauthorized"]}],
    }
    other = start(plain)
    assert answered_by(chat(other, "status-500")) == "good"
    own = chat(other, "general")
    assert_error(own, 502)
    assert tried(other, own) == ["general-1", "unauthorized-1"], "own fallbacks, not the default"
    plain["router_settings"]["max_fallbacks"] = 1
    limited = start(plain)
    answer = chat(limited, "status-500")
    assert_error(answer, 502)
    assert tried(limited, answer) == ["status-500-1", "status-503-1"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, False) for fault in FAULTS]
    + [(fault, True) for fault in FAULTS if fault not in AFTER_THE_HEAD],
)
def test_what_is_the_providers_fault_is_a_502_that_tells_nothing(
    gateway: Gateway, sim: SimulatorProcess, fault: str, stream: bool
) -> None:
    answer = chat(gateway, fault, stream=stream)
    assert_error(answer, 502, "upstream_error")
    assert_discreet(answer, urlsplit(sim.url).netloc, str(urlsplit(sim.url).port), "simulator")
    lost = fault in ("reset", "close")  # on a kept connection that may be its age: asked once more
    assert len(sim.requests()) in ((1, 2) if lost else (1,))


def test_the_refused_key_was_sent_and_is_not_shown(gateway: Gateway, sim: SimulatorProcess) -> None:
    answer = chat(gateway, "unauthorized")
    assert_error(answer, 502, says="unauthorized-1")
    assert "www-authenticate" not in answer.headers
    (asked,) = sim.requests()
    assert asked["headers"]["authorization"] == f"Bearer {UPSTREAM_KEY}"


def test_a_providers_400_passes_through_with_its_body(gateway: Gateway) -> None:
    answer = chat(gateway, "picky")
    error = assert_error(answer, 400)
    assert error["message"] == "The request is not valid."
    assert answer.headers["x-routeiq-deployment"] == "picky-1"
    kept = decision_of(gateway, answer)
    assert (kept["status"], kept["error"], kept["outcome"]) == (400, "status_400", "error")


def test_a_providers_429_passes_through_with_its_retry_after(gateway: Gateway) -> None:
    answer = chat(gateway, "busy")
    assert_error(answer, 429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "7"


def test_a_provider_that_says_nothing_is_a_504(gateway: Gateway) -> None:
    answer = chat(gateway, "slow-start")
    assert_error(answer, 504, "upstream_timeout")
    assert decision_of(gateway, answer)["status"] == 504


@pytest.mark.parametrize("fault", ["cut=4", "malformed"])
def test_a_stream_that_breaks_ends_with_an_error_event(
    gateway: Gateway, sim: SimulatorProcess, fault: str
) -> None:
    sim.behave(fault, "sim-large")
    answer = chat(gateway, "good", stream=True)
    assert answer.status == 200
    events = answer.events()
    if fault == "malformed":
        assert events[-1] == "[DONE]", (
            "what is not JSON is the client's to read; the stream goes on"
        )
        return
    error = json.loads(events[-2])["error"]
    assert error["code"] == "stream_cut"
    assert events[-1] == "[DONE]"
    assert decision_of(gateway, answer)["outcome"] == "stream_cut"
    assert_discreet(answer, urlsplit(sim.url).netloc)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_page_of_a_providers_proxy_does_not_reach_the_client(
    gateway: Gateway, sim: SimulatorProcess, status: int
) -> None:
    sim.behave(f"html;status={status}", "sim-large")
    answer = chat(gateway, "good")
    assert b"<html>" not in answer.body
    assert_error(answer, answer.status)
