"""`routeiq.server`, `routeiq.upstreams`, `routeiq.resilience` and LiteLLM's retries: both values, from outside.

Each fixture is one gateway whose settings differ from the defaults, which other modules exercise.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    answered_by,
    assert_error,
    catalogue,
    chat,
    decision_of,
    entry,
    get,
    log_lines,
    names,
    post,
)
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess, wait_until

LINE_FIELDS = {
    "timestamp",
    "level",
    "service",
    "message",
    "worker_id",
    "request_id",
    "decision_id",
    "strategy",
    "model",
    "deployment",
    "status",
    "duration_ms",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "key",
}


def group(name: str, sim_url: str, model: str, **params: Any) -> dict[str, Any]:
    return entry(name, sim_url, model, info={"id": name}, **params)


@pytest.fixture(scope="module")
def strict(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """Small limits, no access log, three records, short timeouts, no retries."""
    url = simulator.url
    return start(
        {
            "model_list": [
                *catalogue(url),
                group("hangs", url, "sim-small#hang"),
                group("late", url, "sim-small#delay_ms=700"),
                group("late-patient", url, "sim-small#delay_ms=700", timeout=5),
                group("late-stream", url, "sim-small#ttft_ms=700", stream_timeout=0.2),
                group("drips", url, "sim-small#drip=20;tokens=200", timeout=5),
                group("stalls", url, "sim-small#chunk_ms=1500"),
                group("large", url, "sim-small#oversize=60000"),
                group("shaky", url, "sim-small#fail_first=1;status=500;key=strict"),
            ],
            "router_settings": {"num_retries": 0},
            "routeiq": {
                "server": {"access_log": False, "decision_log_size": 3, "max_body_bytes": 5_000},
                "decisions": {"store": False},
                "upstreams": {
                    "first_byte_timeout_s": 0.4,
                    "idle_timeout_s": 0.6,
                    "total_timeout_s": 1.5,
                    "max_response_bytes": 50_000,
                    "max_connections": 1,
                    "keepalive_s": 0.2,
                },
            },
        }
    )


@pytest.fixture(scope="module")
def lenient(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """The defaults, with retries."""
    url = simulator.url
    return start(
        {
            "model_list": [
                *catalogue(url),
                group("late", url, "sim-small#delay_ms=700"),
                group("large", url, "sim-small#oversize=60000"),
                group("shaky", url, "sim-small#fail_first=2;status=500;key=lenient"),
                group("asks-to-wait", url, "sim-small#fail_first=1;status=429;retry_after=1;key=w"),
                group(
                    "asks-too-much", url, "sim-small#fail_first=1;status=429;retry_after=9;key=m"
                ),
                group("never-again", url, "sim-small#status=500", max_retries=0),
                group("often", url, "sim-small#status=500", max_retries=4),
            ],
            "router_settings": {"num_retries": 2},
            "routeiq": {"resilience": {"backoff_base_s": 0.01, "retry_budget": 1.0}},
        },
        env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"},
    )


def seconds(started: float) -> float:
    return time.monotonic() - started


def test_max_body_bytes(strict: Gateway, lenient: Gateway) -> None:
    assert_error(chat(strict, content="x" * 6_000), 413, "request_too_large", says="5000")
    assert chat(lenient, content="x" * 6_000).status == 200


def test_access_log_on_is_json_with_the_facts_of_the_answer(lenient: Gateway) -> None:
    answer = chat(lenient)
    request_id = answer.headers["x-request-id"]

    def lines() -> list[dict[str, Any]]:
        return [one for one in log_lines(lenient) if one.get("request_id") == request_id]

    wait_until(lambda: bool(lines()), "the access log line")
    (line,) = lines()
    assert line.keys() >= LINE_FIELDS
    assert (line["status"], line["model"], line["key"]) == (200, "sim-small", "master")
    assert (line["level"], line["service"]) == ("INFO", "routeiq")
    assert line["worker_id"] == lenient.pid
    assert float(answer.headers["x-routeiq-cost-usd"]) == pytest.approx(line["cost_usd"], abs=1e-12)
    assert line["timestamp"].startswith("20")
    assert "Say hello" not in lenient.log(), "prompts are never logged"


def test_refusals_are_logged(lenient: Gateway) -> None:
    request_id = chat(lenient, "no-such-model").headers["x-request-id"]

    def logged() -> bool:
        found = [one for one in log_lines(lenient) if one.get("request_id") == request_id]
        return names(found, "error") == ["model_not_found"]

    wait_until(logged, "the refusal")


def test_access_log_off_writes_nothing(strict: Gateway) -> None:
    chat(strict)
    time.sleep(0.3)
    assert not [one for one in log_lines(strict) if "request_id" in one]


def test_decision_log_size(strict: Gateway, lenient: Gateway) -> None:
    first, *_ = made = [chat(strict) for _ in range(4)]
    kept = get(strict, "/routeiq/v1/decisions").json()["data"]
    ids = [one.headers["x-routeiq-decision-id"] for one in made]
    assert names(kept, "decision_id") == ids[:0:-1]
    gone = get(strict, f"/routeiq/v1/decisions/{first.headers['x-routeiq-decision-id']}")
    assert_error(gone, 404, "not_found", says="last 3")
    made = [chat(lenient) for _ in range(4)]
    assert decision_of(lenient, made[0])["model"] == "sim-small"


def test_decision_log_size_zero_keeps_none(
    start: StartGateway, simulator: SimulatorProcess
) -> None:
    none = start(
        {
            "model_list": catalogue(simulator.url),
            "routeiq": {"server": {"decision_log_size": 0}, "decisions": {"store": False}},
        }
    )
    assert chat(none).status == 200
    assert get(none, "/routeiq/v1/decisions").json()["data"] == []


def test_first_byte_timeout(strict: Gateway, lenient: Gateway) -> None:
    started = time.monotonic()
    assert_error(chat(strict, "hangs"), 504, "upstream_timeout")
    assert 0.35 < seconds(started) < 3
    assert_error(chat(strict, "late"), 504, "upstream_timeout")
    assert answered_by(chat(lenient, "late")) == "late"


def test_a_deployments_own_timeout_wins(strict: Gateway) -> None:
    assert answered_by(chat(strict, "late-patient")) == "late-patient"


def test_stream_timeout_is_for_the_first_byte_of_a_stream(strict: Gateway) -> None:
    answer = chat(strict, "late-stream", stream=True)
    assert answer.status in (200, 504)
    assert decision_of(strict, answer)["error"] in ("upstream_timeout", None)


def test_idle_timeout_cuts_a_silent_stream(strict: Gateway) -> None:
    answer = chat(strict, "stalls", stream=True)
    assert answer.status == 200
    assert decision_of(strict, answer)["error"] == "upstream_timeout"
    assert b"stream_cut" in answer.body


def test_total_timeout_ends_an_endless_stream(strict: Gateway) -> None:
    started = time.monotonic()
    answer = chat(strict, "drips", stream=True)
    assert seconds(started) < 5
    assert decision_of(strict, answer)["outcome"] == "stream_cut"


def test_max_response_bytes(strict: Gateway, lenient: Gateway) -> None:
    assert_error(chat(strict, "large"), 502, "upstream_error")
    assert len(chat(lenient, "large").body) > 60_000


def together(gateway: Gateway, count: int) -> list[Answer]:
    answers: list[Answer] = []

    def one() -> None:
        answers.append(chat(gateway))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize(("which", "most"), [("strict", 1), ("lenient", 4)])
def test_max_connections(
    request: pytest.FixtureRequest, sim: SimulatorProcess, which: str, most: int
) -> None:
    gateway: Gateway = request.getfixturevalue(which)
    sim.behave("delay_ms=80")
    answers = together(gateway, 4)
    assert [one.status for one in answers] == [200] * 4
    assert sim.stats()["max_in_flight"] in ((1, 2) if most == 1 else (3, 4, 5))


def test_keepalive_closes_idle_connections(
    strict: Gateway, lenient: Gateway, sim: SimulatorProcess
) -> None:
    chat(strict)
    chat(lenient)
    wait_until(lambda: sim.stats()["open_connections"] < 20, "closing")
    before = sim.stats()["open_connections"]
    chat(strict)
    time.sleep(0.6)
    assert sim.stats()["open_connections"] <= before


def test_retries(strict: Gateway, lenient: Gateway) -> None:
    assert_error(chat(strict, "shaky"), 502)
    answer = chat(lenient, "shaky")
    assert answered_by(answer) == "shaky"
    assert answer.headers["x-routeiq-attempts"] == "3"


@pytest.mark.parametrize(("model", "attempts"), [("never-again", "1"), ("often", "5")])
def test_a_deployments_own_retries_win(lenient: Gateway, model: str, attempts: str) -> None:
    answer = chat(lenient, model)
    assert_error(answer, 502)
    assert answer.headers["x-routeiq-attempts"] == attempts


def test_retry_after_is_waited_for(lenient: Gateway) -> None:
    started = time.monotonic()
    assert answered_by(chat(lenient, "asks-to-wait")) == "asks-to-wait"
    assert seconds(started) >= 1.0


def test_a_retry_after_beyond_backoff_max_is_not_waited_for(lenient: Gateway) -> None:
    started = time.monotonic()
    answer = chat(lenient, "asks-too-much")
    assert_error(answer, 429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "9"
    assert seconds(started) < 3


def test_a_retry_budget_of_zero_forbids_retries(
    start: StartGateway, simulator: SimulatorProcess
) -> None:
    frugal = start(
        {
            "model_list": [group("broken", simulator.url, "sim-small#status=500")],
            "router_settings": {"num_retries": 3},
            "routeiq": {"resilience": {"retry_budget": 0.0}},
        }
    )
    assert chat(frugal, "broken").headers["x-routeiq-attempts"] == "1"


def test_the_effective_configuration_is_shown(strict: Gateway) -> None:
    shown = get(strict, "/routeiq/v1/config").json()
    assert shown["routeiq"]["server"]["decision_log_size"] == 3
    assert shown["router"]["num_retries"] == 0
    posted = post(strict, "/routeiq/v1/config", {})
    assert_error(posted, 405)
