"""Feedback through the database: to any worker, after a restart, on one's own requests, learned from once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.experimenting import auth, declared, record_of, settle
from tests.integration.fleet import Fleet, Line, fleet, migrate, stores
from tests.integration.helpers import EASY, assert_error, catalogue, chat, get, post, write
from tests.integration.learned import placed, sample, train
from tests.support.http import Answer
from tests.support.postgres import own_server
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

FEEDBACK = "/routeiq/v1/feedback"
pytestmark = pytest.mark.timeout(120)


def config(sim: SimulatorProcess, **section: Any) -> dict[str, Any]:
    keys = {
        **declared("one", team="crew"),
        **declared("two", team="crew"),
        **declared("chief", permissions=["*"]),
    }
    access = {"teams": {"crew": {}}, "keys": keys}
    known = {"access": access, "learning": {"poll_s": 0.1}, **section}
    return {"model_list": catalogue(sim.url), "routeiq": known}


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def shared(
    request: pytest.FixtureRequest,
    simulator: SimulatorProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Two gateways of two workers on PostgreSQL and Redis; two of one on a SQLite file."""
    path = write(tmp_path_factory.mktemp("feedback"), config(simulator))
    workers = 1 if request.param == "sqlite" else 2
    with fleet(path, request.param, workers=workers) as running:
        yield running


def body_of(answer: Answer, **given: Any) -> dict[str, Any]:
    return {"decision_id": answer.headers["x-routeiq-decision-id"], **given}


def rated(line: Line, answer: Answer) -> Any:
    """The score in the record that a worker shows."""
    found = line.send(f"/routeiq/v1/decisions/{answer.headers['x-routeiq-decision-id']}")
    assert found.status == 200, found.body
    return found.json().get("feedback")


def test_any_worker_takes_feedback_at_once_and_every_one_shows_it(shared: Fleet) -> None:
    for number, decider in enumerate(shared.lines):
        for taker in shared.lines:
            answer = decider.chat("auto", EASY)
            score = (number + 1) / 10
            given = taker.send(FEEDBACK, body_of(answer, score=score, label="l", comment="c"))
            assert (given.status, given.json()["score"]) == (202, score)
            for line in shared.lines:  # the decider's own memory follows with its next look
                wait_until(
                    lambda line=line, answer=answer, score=score: rated(line, answer) == score,  # type: ignore[misc]
                    "the score is shown",
                )
            record = record_of(taker.gateway, answer)
            (rating,) = record["ratings"]
            assert (rating["label"], rating["comment"]) == ("l", "c")
    each = len(shared.lines)
    wait_until(lambda: learned(shared) == [each] * each, "each worker learned from its own", 20.0)


def learned(shared: Fleet) -> list[int]:
    """How many decisions each worker learned from."""
    return [line.get("status")["learning"]["feedback_learned"] for line in shared.lines]


def test_the_last_word_counts_and_each_decision_teaches_its_own_worker_once(shared: Fleet) -> None:
    before = learned(shared)
    answer = shared.first.chat("auto", EASY)
    for number, score in enumerate((0.0, 1.0, 0.25, 0.5)):
        line = shared.lines[number % len(shared.lines)]
        assert line.send(FEEDBACK, body_of(answer, score=score)).status == 202
    for line in shared.lines:
        wait_until(lambda one=line: rated(one, answer) == 0.5, "the last word counts")  # type: ignore[misc]
    expected = [before[0] + 1, *before[1:]]
    wait_until(lambda: learned(shared) == expected, "the worker that decided learned")
    other = shared.last.chat("auto", EASY)  # whatever is read again teaches nothing again
    assert shared.first.send(FEEDBACK, body_of(other, score=1)).status == 202
    expected[-1] += 1
    wait_until(lambda: learned(shared) == expected, "the worker that decided learned")


def test_only_who_asked_may_judge(shared: Fleet) -> None:
    mine = shared.first.chat("auto", EASY, headers=auth("one"))
    for line in shared.lines:
        others = line.send(FEEDBACK, body_of(mine, score=0.0), headers=auth("two"))
        unknown = line.send(FEEDBACK, {"decision_id": "0" * 24, "score": 0}, headers=auth("two"))
        told = assert_error(others, 404)["message"].replace(
            mine.headers["x-routeiq-decision-id"], "0" * 24
        )
        assert told == assert_error(unknown, 404)["message"]  # it does not tell that there is one
        assert (
            line.send(FEEDBACK, body_of(mine, score=0.0), headers={"authorization": ""}).status
            == 401
        )
    assert rated(shared.first, mine) is None
    for line, score in zip(reversed(shared.lines), (1.0, 0.75, 0.5, 0.25), strict=False):
        given = line.send(FEEDBACK, body_of(mine, score=score), headers=auth("one"))
        assert given.status == 202
        wait_until(lambda one=line, s=score: rated(one, mine) == s, "it is shown")  # type: ignore[misc]
    admin = shared.last.send(FEEDBACK, body_of(mine, score=0.1))
    assert admin.status == 202


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_feedback_after_a_restart(tmp_path: Path, sim: SimulatorProcess, kind: Any) -> None:
    path = write(tmp_path, config(sim))
    with stores(kind, tmp_path) as (env, _):
        with start_gateway(path, workers=2, env=env) as gateway:
            before = chat(gateway, "auto", EASY, headers=auth("one"))
            early = chat(gateway, "auto", EASY)
            assert post(gateway, FEEDBACK, body_of(early, score=0.25)).status == 202
        with start_gateway(path, workers=2, env=env) as gateway:
            assert record_of(gateway, early)["feedback"] == 0.25
            assert_error(post(gateway, FEEDBACK, body_of(before, score=1), auth("two")), 404)
            assert post(gateway, FEEDBACK, body_of(before, score=1), auth("one")).status == 202
            assert record_of(gateway, before)["feedback"] == 1.0
            status = get(gateway, "/routeiq/v1/status").json()
            assert status["learning"]["feedback_learned"] == 0  # its worker is gone


def test_an_adaptive_strategy_learns_from_each_decision_once(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    artifact = train(tmp_path / "adaptive", "adaptive", sample(tmp_path / "data.jsonl", 120, 1))
    models = tmp_path / "models"
    models.mkdir()
    placed(models, artifact)
    section = config(sim, strategy="adaptive", learning={"poll_s": 0.1, "time_budget_ms": 1000.0})
    env = {"ROUTEIQ_MODELS_PATH": str(models)}
    with fleet(write(tmp_path, section), "sqlite", gateways=1, workers=2, env=env) as running:
        one, other = running.lines
        answers = [one.chat("auto", f"{EASY} {number}") for number in range(6)]
        assert {answer.headers["x-routeiq-strategy"] for answer in answers} == {"adaptive"}
        for answer in answers:
            for line in (other, one, other):
                assert line.send(FEEDBACK, body_of(answer, score=1)).status == 202
        wait_until(lambda: learned(running) == [6, 0], "the decider learned from all")

        def seen(line: Line) -> int:
            posteriors = line.get("strategies")["reports"]["adaptive"]["posteriors"]
            return sum(int(one["outcomes"]) for per in posteriors.values() for one in per.values())

        assert seen(one) == 6
        assert seen(other) == 0


def test_feedback_while_the_database_is_away(tmp_path: Path, sim: SimulatorProcess) -> None:
    """Nobody is told that it was stored when it was not; when the database is back it is taken."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(own_server())
        migrate(server.url)
        path = write(tmp_path, config(sim))
        gateway: Gateway = stack.enter_context(
            start_gateway(path, env={"DATABASE_URL": server.url})
        )
        answer = chat(gateway, "auto", EASY)
        settle(gateway, 1)
        server.stop()
        refused = post(gateway, FEEDBACK, body_of(answer, score=1))
        assert_error(refused, 503, code="state_unavailable")
        assert refused.headers["retry-after"]
        server.start()
        wait_until(
            lambda: post(gateway, FEEDBACK, body_of(answer, score=1)).status == 202,
            "it is taken",
            20.0,
        )
        assert record_of(gateway, answer)["feedback"] == 1.0
