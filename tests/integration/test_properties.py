"""Arbitrary bodies and headers on every POST route: 2xx or an error in OpenAI's shape, never a 500."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    answered_by,
    assert_discreet,
    assert_error,
    catalogue,
    chat,
    decision_of,
    get,
    parsed,
    post,
    raw,
    raw_post,
)
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/routeiq/v1/route",
)
HEADERS = (
    "x-request-id",
    "x-routeiq-profile",
    "x-routeiq-session-id",
    "x-routeiq-hint",
    "x-routeiq-cache",
    "x-routeiq-tags",
    "x-litellm-trace-id",
    "traceparent",
    "content-encoding",
    "content-type",
    "accept-encoding",
    "openai-beta",
)
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
models = st.sampled_from(["auto", "auto:eco", "sim-small", "sim-nano", "sim-embed"])
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file"]) | values},
    optional={"text": st.text(max_size=30) | values, "image_url": values},
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": roles | values,
        "content": st.text(max_size=50) | st.lists(parts | values, max_size=3) | values,
        "tool_calls": values,
    },
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": models | values,
        "messages": st.lists(messages, max_size=4) | values,
        "prompt": st.text(max_size=50) | values,
        "input": st.text(max_size=50) | st.lists(messages, max_size=3) | values,
        "stream": st.booleans() | values,
        "stream_options": values,
        "tools": values,
        "tool_choice": values,
        "functions": values,
        "response_format": values,
        "text": values,
        "reasoning": values,
        "reasoning_effort": values,
        "modalities": values,
        "max_tokens": st.integers(-5, 100) | values,
        "max_completion_tokens": values,
        "n": st.integers(1, 3) | values,
        "metadata": st.dictionaries(
            st.sampled_from(["tags", "session_id", "x"]), values, max_size=3
        )
        | values,
        "dimensions": values,
        "previous_response_id": values,
    },
)
latin = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
headers = st.dictionaries(st.sampled_from(HEADERS), st.text(latin, max_size=60), max_size=4)


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(
        {"model_list": catalogue(simulator.url), "router_settings": {"num_retries": 0}},
        env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000000"},
    )


def assert_proper(answer: Answer, simulator: SimulatorProcess) -> None:
    assert answer.status != 500, answer.body
    if answer.status == 200:
        assert answer.headers["x-request-id"]
    else:
        assert_error(answer, answer.status)
        assert_discreet(answer, simulator.url.partition("//")[2])


@BOUNDED
@given(path=st.sampled_from(PATHS), body=bodies | values)
def test_any_json(gateway: Gateway, simulator: SimulatorProcess, path: str, body: Any) -> None:
    assert_proper(post(gateway, path, body), simulator)


@BOUNDED
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=200))
def test_any_bytes(gateway: Gateway, simulator: SimulatorProcess, path: str, body: bytes) -> None:
    answer = post(gateway, path, body)
    assert 400 <= answer.status < 500
    assert_proper(answer, simulator)


@BOUNDED
@given(path=st.sampled_from(PATHS), sent=headers, model=models)
def test_any_headers(
    gateway: Gateway, simulator: SimulatorProcess, path: str, sent: dict[str, str], model: str
) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    lines = [f"{name}: {value}" for name, value in sent.items()]
    reply = raw(gateway, raw_post(path, json.dumps(body).encode(), *lines))
    assert_proper(parsed(reply), simulator)


@settings(BOUNDED, max_examples=60)
@given(sent=st.binary(min_size=1, max_size=300))
def test_any_first_bytes(gateway: Gateway, sent: bytes) -> None:
    """What is not HTTP is answered in our shape or not at all, and never with a 500."""
    reply = raw(gateway, sent + b"\r\n\r\n", timeout_s=0.05)
    if reply:
        answer = parsed(reply)
        assert_error(answer, answer.status)
        assert answer.status < 500


def test_afterwards_everything_still_works_and_nothing_is_lost(gateway: Gateway) -> None:
    answer = chat(gateway)
    assert answered_by(answer) == "sim-small"
    assert decision_of(gateway, answer)["status"] == 200
    assert get(gateway, "/routeiq/v1/status").json()["in_flight"] == 0
    assert "Traceback" not in gateway.log()
    lost = [line for line in gateway.log().split("\n") if line and line[0] not in "{rw"]
    assert lost == [], "the log holds something that is no line of ours"


def test_many_clients_at_once_get_their_own_answers(gateway: Gateway) -> None:
    failures: list[str] = []

    def client(number: int) -> None:
        for turn in range(5):
            name = f"c{number}-{turn}"
            answer = chat(gateway, headers={"x-request-id": name}, stream=turn % 2 == 0)
            if answer.status != 200 or answer.headers["x-request-id"] != name:
                failures.append(f"{name}: {answer.status} {answer.headers}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
