from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.exceptions import ConnectFailed, ConnectionLost, UpstreamError, UpstreamTimeout
from routeiq.resilience.retry import (
    COUNTED,
    RetryBudget,
    RetryPolicy,
    Verdict,
    classify,
    retry_after_s,
)
from tests.support.clock import FakeClock

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", Verdict.SUCCESS),
        (299, b"context_length_exceeded", Verdict.SUCCESS),
        (302, b"", Verdict.AUTH_ERROR),
        (400, b"bad temperature", Verdict.CLIENT_ERROR),
        (400, b'{"code": "context_length_exceeded"}', Verdict.CONTEXT_WINDOW),
        (400, b"This model's Maximum Context Length is 8192 tokens", Verdict.CONTEXT_WINDOW),
        (413, b"prompt is too long: 9 tokens > 8 maximum", Verdict.CONTEXT_WINDOW),
        (400, b'{"code": "content_policy_violation"}', Verdict.CONTENT_POLICY),
        (400, b'"innererror": {"code": "ResponsibleAIPolicyViolation"}', Verdict.CONTENT_POLICY),
        (403, b"content_filter", Verdict.CONTENT_POLICY),
        (401, b"", Verdict.AUTH_ERROR),
        (402, b"Insufficient Balance", Verdict.AUTH_ERROR),
        (403, b"", Verdict.AUTH_ERROR),
        (404, b"", Verdict.CLIENT_ERROR),
        (404, b'{"code": "model_not_found"}', Verdict.AUTH_ERROR),
        (404, b'{"code": "DeploymentNotFound"}', Verdict.AUTH_ERROR),
        (405, b"", Verdict.CLIENT_ERROR),
        (413, b"", Verdict.CLIENT_ERROR),
        (422, b"", Verdict.CLIENT_ERROR),
        (408, b"", Verdict.RETRY),
        (409, b"", Verdict.RETRY),
        (425, b"", Verdict.RETRY),
        (429, b"context_length_exceeded", Verdict.RETRY),
        (500, b"", Verdict.RETRY),
        (529, b"", Verdict.RETRY),
        (None, b"", Verdict.RETRY),
        (400, b" " * 9000 + b"context_length_exceeded", Verdict.CLIENT_ERROR),
    ],
)
def test_status_and_body_are_classified(status: int | None, body: bytes, verdict: Verdict) -> None:
    assert classify(status, None, body) is verdict


@pytest.mark.parametrize(
    "error",
    [ConnectFailed("x"), ConnectionLost("x"), UpstreamTimeout("x", phase="first_byte")],
)
def test_errors_of_the_connection_may_pass(error: UpstreamError) -> None:
    assert classify(None, error) is Verdict.RETRY


def test_breakers_count_what_says_something_about_the_deployment() -> None:
    assert {Verdict.RETRY, Verdict.AUTH_ERROR} == COUNTED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"content-type", b"5")], None),
        ([(b"retry-after", b"5")], 5.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after", b"-3")], 0.0),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"\xff")], None),
        ([(b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after-ms", b"x"), (b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"Fri, 15 Jan 2027 08:00:07 GMT")], 7.0),
        ([(b"retry-after", b"Fri, 15 Jan 2027 07:59:00 GMT")], 0.0),
        ([(b"retry-after", b"Fri, 99 Jan 2027 07:59:00 GMT")], None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    headers: list[tuple[bytes, bytes]], seconds: float | None
) -> None:
    assert retry_after_s(headers, NOW) == seconds


@given(st.integers(0, 1000), st.integers())
def test_pause_is_exponential_with_full_jitter(used: int, seed: int) -> None:
    policy = RetryPolicy(base_s=0.25, max_s=8.0, rng=Random(seed))
    pause = policy.pause_s(used)
    assert pause is not None
    assert 0.0 <= pause <= min(8.0, 0.25 * 2.0 ** min(used, 10))


def test_pause_is_hand_computed() -> None:
    class Half(Random):
        def random(self) -> float:
            return 0.5

    policy = RetryPolicy(base_s=0.25, max_s=8.0, rng=Half())
    assert [policy.pause_s(used) for used in range(7)] == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert policy.pause_s(0, 3.0) == 3.125
    assert policy.pause_s(6, 7.0) == 8.0
    assert policy.pause_s(0, 8.1) is None


@pytest.mark.parametrize(("minimum", "pause"), [(0.0, 0.0), (1.5, 1.5)])
def test_pause_has_a_minimum(minimum: float, pause: float) -> None:
    policy = RetryPolicy(base_s=0.0, max_s=8.0, minimum_s=minimum)
    assert policy.pause_s(0) == pause
    assert policy.pause_s(0, 0.5) == max(minimum, 0.5)


def test_policy_without_a_generator_makes_its_own() -> None:
    pause = RetryPolicy(base_s=1.0, max_s=1.0).pause_s(0)
    assert pause is not None
    assert 0.0 <= pause <= 1.0


def take_all(budget: RetryBudget) -> int:
    count = 0
    while budget.take():
        count += 1
    return count


def test_budget_is_a_share_of_requests(clock: FakeClock) -> None:
    budget = RetryBudget(share=0.2, clock=clock)
    assert take_all(budget) == 10  # what a fresh gateway may spend
    for _ in range(25):
        budget.request()
    assert take_all(budget) == 5


def test_budget_saves_no_more_than_its_burst(clock: FakeClock) -> None:
    budget = RetryBudget(share=1.0, clock=clock)
    for _ in range(1000):
        budget.request()
    clock.advance(1000)
    assert take_all(budget) == 10


def test_quiet_gateway_may_retry_once_a_second(clock: FakeClock) -> None:
    budget = RetryBudget(share=0.01, clock=clock)
    take_all(budget)
    clock.advance(3)
    assert take_all(budget) == 3


def test_budget_of_zero_forbids_retries(clock: FakeClock) -> None:
    budget = RetryBudget(share=0.0, clock=clock)
    budget.request()
    clock.advance(100)
    assert take_all(budget) == 0
