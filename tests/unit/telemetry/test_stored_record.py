from __future__ import annotations

import hashlib
from typing import Any

import pytest

from routeiq.telemetry.decisions import Kept
from routeiq.telemetry.stored_record import script, stored_record, summary
from routeiq.types import Capability, Decision, Outcome, Ranked, RoutingRequest
from tests.support.routing import CHEAP, request


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello", "latin"),
        ("Übermaß", "latin"),
        ("Привет, Bob", "cyrillic"),
        ("你好", "cjk"),
        ("12 + 3 = ?", None),
        ("٣ + ٤", None),
        ("", None),
    ],
)
def test_the_script_of_most_letters_is_named(text: str, found: str | None) -> None:
    assert script(text) == found


def test_a_summary_says_how_long_and_what_kind() -> None:
    found = summary(
        request(
            "Mend this:\n```\nx = 1\n```",
            system="Be brief.",
            turns=3,
            input_tokens=12,
            needs=frozenset({Capability.TOOLS, Capability.JSON_SCHEMA}),
        )
    )
    assert found == {
        "chars": 24,
        "system_chars": 9,
        "lines": 4,
        "turns": 3,
        "estimated_tokens": 12,
        "script": "latin",
        "code": True,
        "tools": True,
        "images": False,
        "json": True,
    }
    assert summary(request(""))["lines"] == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("  def f():", True),
        ("please import this into the class", False),
        ("SELECT 1", True),
        ("a ``` b", True),
        ("defend", False),
    ],
)
def test_code_is_seen_by_its_fences_and_first_words(text: str, code: bool) -> None:
    assert summary(request(text))["code"] is code


def test_text_that_is_no_unicode_is_hashed_too() -> None:
    asked: RoutingRequest = request("\ud800")
    decision = Decision(
        id="d",
        requested="auto",
        strategy="prior",
        reason="",
        ranking=(Ranked(deployment=CHEAP, score=0.5, utility=0.5),),
    )
    outcome = Outcome(kind="error", status=502, deployment=None, attempts=(), latency_ms=1.0)
    stored: dict[str, Any] = stored_record(Kept({}, asked, decision, outcome))
    assert stored["route_text_hash"] == hashlib.sha256(b"\xed\xa0\x80").hexdigest()
