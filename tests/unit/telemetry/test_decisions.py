"""The decision record, and the last ones in memory."""

from __future__ import annotations

import json

from routeiq.telemetry.decisions import (
    DecisionLog,
    attempt_details,
    decision_details,
    decision_record,
)
from routeiq.types import Attempt, Decision, Exclusion, Outcome, Ranked, Usage
from tests.support.routing import CHEAP, STRONG, request


def decision(id: str = "d1") -> Decision:
    return Decision(
        id=id,
        requested="auto",
        strategy="prior",
        reason="because",
        ranking=(
            Ranked(deployment=CHEAP, score=0.5, utility=0.4, cost_usd=0.01, latency_s=0.2),
            Ranked(deployment=STRONG, score=0.9, utility=0.3),
        ),
        exclusions=(Exclusion(deployment_id="x", reason="unhealthy"),),
        profile="auto",
    )


def outcome(*, good: bool = True) -> Outcome:
    attempts = (
        Attempt(deployment_id="cheap", status=500, duration_ms=1.0, error="status_500"),
        Attempt(deployment_id="strong", status=200, duration_ms=2.0),
    )
    if not good:
        return Outcome(
            kind="error", status=502, deployment=None, attempts=attempts[:1], latency_ms=3.0
        )
    return Outcome(
        kind="success",
        status=200,
        deployment=STRONG,
        attempts=attempts,
        latency_ms=3.0,
        usage=Usage(input_tokens=5, output_tokens=7, cached_input_tokens=1),
        cost_usd=0.02,
    )


def test_the_record_is_about_the_answer_and_never_has_the_prompt() -> None:
    asked = request("secret", tags=frozenset({"b", "a"}), session_id="s")
    record = decision_record(asked, decision(), outcome(), key_alias="team", time_s=12.5)
    assert (record["model"], record["deployment"], record["provider"]) == (
        "strong",
        "strong",
        "openai",
    )
    assert (record["input_tokens"], record["output_tokens"], record["cached_input_tokens"]) == (
        5,
        7,
        1,
    )
    assert (record["key"], record["time"], record["attempts"]) == ("team", 12.5, 2)
    assert record["tags"] == ["a", "b"]
    assert "secret" not in json.dumps(record)


def test_a_record_without_answer_has_no_model_and_no_tokens() -> None:
    record = decision_record(request(), decision(), outcome(good=False), key_alias="k", time_s=0.0)
    for name in ("model", "deployment", "provider", "input_tokens", "output_tokens", "cost_usd"):
        assert record[name] is None
    assert (record["outcome"], record["status"]) == ("error", 502)


def test_details_name_candidates_in_order_and_who_was_left_out() -> None:
    details = decision_details(decision())
    assert [one["model"] for one in details["candidates"]] == ["cheap", "strong"]
    assert details["candidates"][0] == {
        "model": "cheap",
        "deployment": "cheap",
        "score": 0.5,
        "utility": 0.4,
        "cost_usd": 0.01,
        "latency_s": 0.2,
    }
    assert details["exclusions"] == [{"deployment": "x", "reason": "unhealthy"}]
    assert details["propensities"] is None


def test_attempts_are_told_in_order() -> None:
    assert [one["error"] for one in attempt_details(outcome().attempts)] == ["status_500", None]


def test_the_log_keeps_the_last_ones_and_finds_them() -> None:
    log = DecisionLog(2)
    for id in ("a", "b", "c"):
        log.add({"decision_id": id}, request(), decision(id), outcome())
    assert [record["decision_id"] for record in log.latest()] == ["c", "b"]
    assert [record["decision_id"] for record in log.latest(1)] == ["c"]
    assert log.find("a") is None
    found = log.get("b")
    assert found is not None
    assert [one["deployment"] for one in found["attempts_made"]] == ["cheap", "strong"]
    assert found["decision_id"] == "b"
    assert log.get("a") is None


def test_feedback_on_a_kept_record_is_seen_by_whoever_asks_later() -> None:
    log = DecisionLog(1)
    log.add({"decision_id": "a"}, request(), decision("a"), outcome())
    kept = log.find("a")
    assert kept is not None
    kept.record["feedback"] = 1.0
    assert log.latest()[0]["feedback"] == 1.0


def test_a_log_of_size_zero_keeps_nothing() -> None:
    log = DecisionLog(0)
    log.add({"decision_id": "a"}, request(), decision("a"), outcome())
    assert log.latest() == []
    assert log.find("a") is None
