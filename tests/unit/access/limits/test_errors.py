from __future__ import annotations

import pytest

from routeiq.access.limits.buckets import Bucket, Tenant
from routeiq.access.limits.errors import duration, money, refusal, unavailable
from routeiq.access.limits.periods import TOTAL
from routeiq.access.principal import Rule
from tests.unit.access.limits.helpers import rule, usd


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0055, "6ms"),
        (0.9999, "1s"),
        (1.0, "1s"),
        (1.2, "1.2s"),
        (1.21, "1.3s"),
        (59.99, "1m0s"),
        (60.0, "1m0s"),
        (90.0, "1m30s"),
        (7205.0, "2h0m5s"),
        (-1.0, "0ms"),
    ],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_money() -> None:
    assert [money(n) for n in (0, usd(40), usd(0.5), 1, usd(1.234567891), -5)] == [
        "0.00",
        "40.00",
        "0.50",
        "0.000000001",
        "1.234567891",
        "0.00",
    ]


def bucket(one: Rule, used: int = 0) -> Bucket:
    made = Bucket(Tenant("team:secret", 0, 0.0), "name", one, TOTAL if one.per == "total" else None)
    made.used = used
    return made


def test_messages_name_the_level_and_nobody() -> None:
    cases = [
        (
            bucket(rule("requests", 60, scope="team:secret"), 60),
            1,
            "Rate limit reached for requests per minute (RPM) of this team: limit 60, used 60. "
            "Please try again in 1.2s.",
        ),
        (
            bucket(rule("tokens", 1000, scope="user:u1"), 900),
            200,
            "Rate limit reached for tokens per minute (TPM) of this user: limit 1000, used 900, "
            "requested 200. Please try again in 1.2s.",
        ),
        (
            bucket(rule("spend_tokens", 1000, "total", scope="key:k"), 900),
            200,
            "The total budget of this key has too little left for this request: limit 1000 tokens, "
            "used 900 tokens, requested about 200 tokens.",
        ),
    ]
    for one, amount, message in cases:
        assert refusal(one, amount, 1.2, 0.0).message == message
    assert refusal(cases[2][0], 200, 1.2, 0.0).retry_after_s is None  # it never resets
    assert "secret" not in unavailable(cases[0][0]).message
