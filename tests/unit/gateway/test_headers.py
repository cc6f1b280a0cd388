from __future__ import annotations

import pytest

from routeiq.gateway.headers import MAX_VALUE, decision_headers, reason, safe
from routeiq.gateway.trace import Trace
from routeiq.types import Attempt, Decision, Deployment, Ranked, RoutingRequest
from tests.support.clock import FakeClock

FIRST = Deployment(id="first-1", group="first", provider="openai", model="m")
SECOND = Deployment(id="second-1", group="second", provider="openai", model="m")


def trace(clock: FakeClock, answered: Deployment | None = FIRST, *errors: str | None) -> Trace:
    made = Trace(request_id="r", operation="chat", clock=clock)
    made.decision = Decision(
        id="d" * 24,
        requested="auto",
        strategy="prior",
        reason="because",
        ranking=tuple(Ranked(deployment=d, score=1.0, utility=1.0) for d in (FIRST, SECOND)),
    )
    made.answered_by = answered
    made.attempts = [
        Attempt(deployment_id=d.id, status=None, duration_ms=1.0, error=error)
        for d, error in zip((FIRST, SECOND), errors, strict=False)
    ]
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("a\r\nset-cookie: x", b"aset-cookie: x"),
        ("tab\tnul\x00del\x7f", b"tabnuldel"),
        ("é→\U0001f600", b"???"),
        ("x" * 999, b"x" * MAX_VALUE),
    ],
)
def test_values_are_printable_ascii_and_bounded(text: str, value: bytes) -> None:
    assert safe(text) == value


def test_nothing_is_said_about_a_request_that_was_not_routed(clock: FakeClock) -> None:
    assert decision_headers(Trace(request_id="r", operation="chat", clock=clock)) == []


def test_headers_name_what_answered_not_what_was_chosen(clock: FakeClock) -> None:
    headers = dict(decision_headers(trace(clock, SECOND, "status_500", None)))
    assert headers[b"x-routeiq-model"] == b"second"
    assert headers[b"x-routeiq-deployment"] == b"second-1"
    assert headers[b"x-routeiq-attempts"] == b"2"
    assert headers[b"x-routeiq-reason"] == b"fallback from first-1 (status_500); because"


def test_no_model_is_named_where_none_answered(clock: FakeClock) -> None:
    headers = dict(decision_headers(trace(clock, None, "status_500")))
    assert not {b"x-routeiq-model", b"x-routeiq-deployment"} & headers.keys()


@pytest.mark.parametrize(
    ("cost", "shown"), [(0.0, b"0.000000000000"), (2.5e-9, b"0.000000002500"), (None, None)]
)
def test_small_costs_are_not_rounded_away(
    clock: FakeClock, cost: float | None, shown: bytes | None
) -> None:
    made = trace(clock)
    made.cost_usd = cost
    assert dict(decision_headers(made)).get(b"x-routeiq-cost-usd") == shown


def test_overhead_is_all_but_the_providers_time(clock: FakeClock) -> None:
    made = trace(clock)
    made.phases = (0.001, 0.002, 0.003)
    made.upstream_ms = 90.0
    clock.advance(0.1)
    headers = dict(decision_headers(made))
    assert float(headers[b"x-routeiq-overhead-ms"]) == pytest.approx(10.0)
    assert headers[b"server-timing"] == (
        b"auth;dur=1.000, parse;dur=2.000, route;dur=3.000, upstream;dur=90.000, total;dur=100.000"
    )


def test_overhead_is_never_negative(clock: FakeClock) -> None:
    made = trace(clock)
    made.upstream_ms = 5.0
    assert dict(decision_headers(made))[b"x-routeiq-overhead-ms"] == b"0.000"


def test_the_reason_stays_where_the_first_choice_answered(clock: FakeClock) -> None:
    assert reason(trace(clock, FIRST, None)) == "because"
    assert reason(trace(clock, None)) == "because"
    assert reason(Trace(request_id="r", operation="chat", clock=clock)) == ""


@pytest.mark.parametrize("explain", [True, False])
def test_scores_and_propensity_are_said_where_the_client_asks(
    clock: FakeClock, explain: bool
) -> None:
    noted = trace(clock)
    noted.explain = explain
    headers = dict(decision_headers(noted))
    assert (b"x-routeiq-scores" in headers) is explain
    if explain:
        assert headers[b"x-routeiq-scores"] == b"first=1.0000, second=1.0000"
        assert headers[b"x-routeiq-propensity"] == b"1"


def test_an_answer_that_others_were_rejected_for_says_so(clock: FakeClock) -> None:
    noted = trace(clock, SECOND, None, None)
    noted.rejected = 1
    assert reason(noted) == "escalated past 1 answer; because"


def test_limits_and_experiment_are_said_where_there_are_any(clock: FakeClock) -> None:
    noted = trace(clock)
    assert not [name for name, _ in decision_headers(noted) if b"ratelimit" in name]
    noted.limit_headers = [(b"x-ratelimit-limit-requests", b"5")]
    noted.request = RoutingRequest(
        id="r", operation="chat", model="m", text="", experiment="ab", variant="new\r\nx"
    )
    headers = dict(decision_headers(noted))
    assert headers[b"x-ratelimit-limit-requests"] == b"5"
    assert headers[b"x-routeiq-experiment"] == b"ab=newx"
