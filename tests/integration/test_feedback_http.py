"""Feedback over HTTP, and the decision log that it joins."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.embeddings.features import load_features
from routeiq.types import RoutingRequest
from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    EASY,
    HARD,
    KEY,
    assert_error,
    catalogue,
    chat,
    decision_of,
    get,
    post,
)
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess, wait_until

OTHER_KEY = {"authorization": "Bearer sk-other"}


def give(gateway: Gateway, answer: Answer, **body: Any) -> Answer:
    decision = answer.headers["x-routeiq-decision-id"]
    return post(gateway, "/routeiq/v1/feedback", {"decision_id": decision, **body})


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ({"score": 0.25}, 0.25),
        ({"score": 1}, 1.0),
        ({"rating": "up"}, 1.0),
        ({"rating": "down"}, 0.0),
    ],
)
def test_feedback_is_kept_with_the_decision(
    gateway: Gateway, body: dict[str, Any], score: float
) -> None:
    answer = chat(gateway, "auto", EASY)
    given = give(gateway, answer, **body)
    assert (given.status, given.json()["score"]) == (202, score)
    assert decision_of(gateway, answer)["feedback"] == score


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "exactly one"),
        ({"score": 0.5, "rating": "up"}, "exactly one"),
        ({"score": 1.5}, "from 0 to 1"),
        ({"score": "1"}, "from 0 to 1"),
        ({"score": True}, "from 0 to 1"),
        ({"rating": "great"}, "up or down"),
        ({"rating": []}, "up or down"),
    ],
)
def test_feedback_that_cannot_be_used_says_what_is_wrong(
    gateway: Gateway, body: dict[str, Any], says: str
) -> None:
    answer = chat(gateway, "auto", EASY)
    assert_error(give(gateway, answer, **body), 400, says=says)
    assert "feedback" not in decision_of(gateway, answer)


@pytest.mark.parametrize("decision", ["", "0" * 23, "../../etc/passwd", "A" * 24, None, 7])
def test_feedback_needs_a_decision_id(gateway: Gateway, decision: Any) -> None:
    answer = post(gateway, "/routeiq/v1/feedback", {"decision_id": decision, "score": 1})
    assert_error(answer, 400, param="decision_id")


def test_feedback_on_a_decision_that_nobody_knows_is_not_found(gateway: Gateway) -> None:
    answer = post(gateway, "/routeiq/v1/feedback", {"decision_id": "0" * 24, "score": 1})
    assert_error(answer, 404, says="of this key")


def test_without_a_database_the_message_says_what_else_there_is(
    start: StartGateway, sim: SimulatorProcess
) -> None:
    section = {"decisions": {"store": False}}
    gateway = start({"model_list": catalogue(sim.url), "routeiq": section})
    answer = post(gateway, "/routeiq/v1/feedback", {"decision_id": "0" * 24, "score": 1})
    assert_error(answer, 404, says="decision_log")
    assert give(gateway, chat(gateway, "auto", EASY), score=1).status == 202


def test_feedback_needs_a_key(gateway: Gateway) -> None:
    body = {"decision_id": "0" * 24, "score": 1}
    assert post(gateway, "/routeiq/v1/feedback", body, OTHER_KEY).status == 401


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    texts = [file.read_text() for file in folder.glob("*.jsonl")]
    found = [json.loads(line) for text in texts for line in text.split("\n") if line]
    return [line for line in found if line["kind"] == kind]


def logging_gateway(
    start: StartGateway, sim: SimulatorProcess, folder: Path, workers: int = 1, **learning: Any
) -> Gateway:
    section = {"learning": {"decision_log": str(folder), "poll_s": 0.1, **learning}}
    return start({"model_list": catalogue(sim.url), "routeiq": section}, workers=workers)


@pytest.mark.parametrize(("text", "features"), [(False, True), (True, False)])
def test_the_decision_log_has_what_training_needs(
    start: StartGateway, sim: SimulatorProcess, tmp_path: Path, text: bool, features: bool
) -> None:
    gateway = logging_gateway(start, sim, tmp_path, log_text=text, log_features=features)
    answer = chat(gateway, "auto", HARD)
    give(gateway, answer, score=0.75)
    wait_until(lambda: bool(lines(tmp_path, "decision")), "a line in the decision log")
    (line,) = lines(tmp_path, "decision")
    assert line["decision_id"] == answer.headers["x-routeiq-decision-id"]
    assert line["chosen"] == line["model"] == answer.headers["x-routeiq-model"]
    assert line["cost_usd"] == pytest.approx(float(answer.headers["x-routeiq-cost-usd"]))
    assert {one["model"] for one in line["candidates"]} >= {"sim-nano", "sim-large"}
    assert line["propensity"] == 1.0
    assert line["route_text_hash"] == hashlib.sha256(HARD.encode()).hexdigest()
    assert ("route_text" in line) is text
    assert ("features" in line) is features
    if text:
        assert line["route_text"] == HARD
    if features:
        known = load_features()
        vector = np.frombuffer(base64.b64decode(line["features"]), "<f2")
        request = RoutingRequest(id="x", operation="chat", model="auto", text=HARD)
        assert line["fingerprint"] == known.fingerprint
        np.testing.assert_allclose(vector, known.one(request), atol=2e-3)
    (told,) = lines(tmp_path, "feedback")
    assert (told["decision_id"], told["score"]) == (line["decision_id"], 0.75)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {0o600}


def test_with_several_workers_feedback_finds_the_one_that_decided(
    start: StartGateway, sim: SimulatorProcess, tmp_path: Path
) -> None:
    gateway = logging_gateway(start, sim, tmp_path, workers=4)
    answers = [chat(gateway, "auto", f"{EASY} {index}") for index in range(12)]
    assert {give(gateway, answer, score=1).status for answer in answers} == {202}

    def learned() -> int:
        seen: dict[int, int] = {}
        for _ in range(40):
            status = get(gateway, "/routeiq/v1/status").json()
            seen[status["worker_id"]] = status["learning"]["feedback_learned"]
        return sum(seen.values())

    wait_until(lambda: learned() == 12, "every decision's worker took its feedback", 20.0)


def test_files_of_the_decision_log_are_replaced_and_deleted(
    start: StartGateway, sim: SimulatorProcess, tmp_path: Path
) -> None:
    gateway = logging_gateway(
        start, sim, tmp_path, log_max_bytes=4096, log_files=2, log_features=False
    )
    for index in range(12):
        chat(gateway, "auto", f"{EASY} {index}")
    wait_until(lambda: len(list(tmp_path.glob("decisions-*"))) == 2, "two files are left")
    assert all(file.stat().st_size < 3 * 4096 for file in tmp_path.iterdir())


def test_a_decision_log_that_cannot_be_written_fails_no_request(
    start: StartGateway, sim: SimulatorProcess, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    gateway = logging_gateway(start, sim, blocked / "log")
    answer = chat(gateway, "auto", EASY)
    assert answer.status == 200
    assert_error(give(gateway, answer, score=1), 503, says="not stored")
    assert get(gateway, "/_health/ready", KEY).status == 200
