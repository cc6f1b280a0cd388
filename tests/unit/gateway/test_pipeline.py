from __future__ import annotations

from typing import Any

import pytest

from routeiq.gateway.pipeline import routing_request, session_of, split_tags
from routeiq.gateway.trace import Trace
from routeiq.types import RoutingRequest
from tests.support.clock import FakeClock

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def read(
    clock: FakeClock, headers: dict[str, str], body: dict[str, Any] | None = None
) -> tuple[RoutingRequest, Trace]:
    trace = Trace(request_id="r1", operation="chat", clock=clock)
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return routing_request(trace, {"headers": raw}, body or BODY), trace


@pytest.mark.parametrize(
    ("value", "body", "tags"),
    [
        (None, {}, set()),
        ("a, b,,a", {}, {"a", "b"}),
        (" , ", {}, set()),
        ("a", {"metadata": {"tags": ["b", "", 7]}}, {"a", "b"}),
        (None, {"metadata": {"tags": "b"}}, set()),
        (None, {"metadata": ["tags"]}, set()),
    ],
)
def test_tags(value: str | None, body: dict[str, Any], tags: set[str]) -> None:
    assert split_tags(value, body) == tags


@pytest.mark.parametrize(
    ("body", "session"),
    [
        ({}, None),
        ({"metadata": {"session_id": "a", "thread_id": "b"}}, "a"),
        ({"metadata": {"session_id": "", "conversation_id": "b"}}, "b"),
        ({"metadata": {"thread_id": "c"}, "previous_response_id": "d"}, "c"),
        ({"metadata": None, "previous_response_id": "d"}, "d"),
        ({"previous_response_id": 7}, None),
    ],
)
def test_session(body: dict[str, Any], session: str | None) -> None:
    assert session_of(body) == session


def test_our_headers_and_litellms_names_for_them(clock: FakeClock) -> None:
    ours, _ = read(
        clock,
        {
            "x-routeiq-profile": "eco",
            "x-routeiq-session-id": "s",
            "x-routeiq-hint": "h",
            "x-routeiq-tags": "t",
        },
    )
    assert (ours.profile, ours.session_id, ours.hint) == ("eco", "s", "h")
    assert ours.tags == {"t"}
    theirs, trace = read(
        clock,
        {"x-litellm-session-id": "s", "x-litellm-tags": "t", "x-litellm-trace-id": "z" * 200},
    )
    assert (theirs.session_id, set(theirs.tags)) == ("s", {"t"})
    assert trace.trace_id == "z" * 128
    assert theirs.id == "r1"


def test_empty_headers_count_as_not_sent(clock: FakeClock) -> None:
    request, _ = read(
        clock, {"x-routeiq-profile": "", "x-routeiq-hint": "", "x-routeiq-session-id": ""}
    )
    assert (request.profile, request.hint, request.session_id) == (None, None, None)


def test_of_the_clients_headers_only_the_harmless_reach_the_provider(clock: FakeClock) -> None:
    _, trace = read(
        clock, {"openai-beta": "a=1", "authorization": "Bearer k", "x-api-key": "k", "cookie": "c"}
    )
    assert trace.client_headers == ((b"openai-beta", b"a=1"),)
