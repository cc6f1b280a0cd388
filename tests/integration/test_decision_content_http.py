"""What decision records say of a prompt, and that they can be exported, replayed, and are deleted in time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyarrow import parquet

from routeiq.ports import SystemClock
from tests.integration.experimenting import (
    HEADER,
    command,
    each_worker,
    record_of,
    settle,
)
from tests.integration.fleet import stores
from tests.integration.helpers import EASY, HARD, assert_error, catalogue, chat, get, post, write
from tests.integration.learned import placed, sample, train
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

DECISIONS = "/routeiq/v1/decisions"
FEEDBACK = "/routeiq/v1/feedback"
SECRET = "My passport number is K8201947."
DAY_S = 86_400.0
pytestmark = pytest.mark.timeout(120)


def config(sim: SimulatorProcess, decisions: dict[str, Any], **section: Any) -> dict[str, Any]:
    return {
        "model_list": catalogue(sim.url),
        "routeiq": {"strategy": "prior", "decisions": decisions, **section},
    }


@pytest.mark.parametrize(
    ("decisions", "has", "text"),
    [
        ({"features": "none"}, set(), False),
        ({}, {"route_text_hash", "prompt"}, False),
        ({"features": "summary", "text": True}, {"route_text_hash", "prompt"}, True),
        (
            {"features": "vector", "text": False},
            {"route_text_hash", "prompt", "features", "fingerprint"},
            False,
        ),
    ],
)
def test_a_record_keeps_of_the_prompt_what_was_asked_for(
    tmp_path: Path, sim: SimulatorProcess, decisions: dict[str, Any], has: set[str], text: bool
) -> None:
    path = write(tmp_path, config(sim, decisions))
    database = tmp_path / "kept.db"
    with start_gateway(path, env={"DATABASE_URL": f"sqlite:///{database}"}) as gateway:
        answer = chat(gateway, "auto", SECRET)
        settle(gateway, 1)
        record = record_of(gateway, answer)
        log = gateway.log()
        gateway.terminate()
        gateway.wait()
    known = {"route_text_hash", "prompt", "features", "fingerprint"}
    assert record.keys() & known == has
    assert record.get("route_text") == (SECRET if text else None)
    if has:
        assert record["route_text_hash"] == hashlib.sha256(SECRET.encode()).hexdigest()
        assert record["prompt"]["chars"] == len(SECRET)
        assert record["prompt"]["script"] == "latin"
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("kept.db*"))
    assert (SECRET.encode() in kept) is text
    assert SECRET not in log


def test_the_whole_record_is_kept(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(write(tmp_path, config(sim, {})), workers=2) as gateway:
        answer = chat(gateway, "auto", HARD)
        settle(gateway, 2)
        records = [record_of(gateway, answer) for _ in range(6)]  # of either worker
        assert all(one == records[0] for one in records)
        record = records[0]
        assert record["model"] == answer.headers["x-routeiq-model"] == record["chosen"]
        assert record["cost_usd"] == pytest.approx(float(answer.headers["x-routeiq-cost-usd"]))
        assert record["request_id"] == answer.headers["x-request-id"]
        assert record["strategy"] == "prior"
        assert {one["model"] for one in record["candidates"]} >= {"sim-nano", "sim-large"}
        (attempt,) = record["attempts_made"]
        assert (attempt["deployment"], attempt["status"]) == (record["deployment"], 200)
        assert record["propensity"] == 1.0
        assert HEADER not in answer.headers
        assert "feedback" not in record


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with stores(request.param, tmp_path) as (env, _):
        yield env["DATABASE_URL"]


def events(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The decisions and the feedback of an export."""
    found = [json.loads(line) for line in text.splitlines()]
    kinds = {
        kind: [one for one in found if one["kind"] == kind] for kind in ("decision", "feedback")
    }
    assert len(found) == sum(map(len, kinds.values()))
    return kinds["decision"], kinds["feedback"]


def score(gateway: Gateway, answer: Answer, given: float) -> None:
    body = {"decision_id": answer.headers["x-routeiq-decision-id"], "score": given, "label": "x"}
    assert post(gateway, FEEDBACK, body).status == 202


def test_an_export_is_whole_by_http_and_by_command(
    tmp_path: Path, sim: SimulatorProcess, database: str
) -> None:
    path = write(tmp_path, config(sim, {}))
    with start_gateway(path, workers=2, env={"DATABASE_URL": database}) as gateway:
        answers = [chat(gateway, "auto", f"{EASY} {number}") for number in range(24)]
        small = [chat(gateway, "sim-small", f"{EASY} {number}") for number in range(6)]
        told = {one.headers["x-routeiq-decision-id"] for one in (*answers, *small)}
        score(gateway, answers[0], 0.25)
        score(gateway, answers[0], 0.75)
        settle(gateway, 2)
        for _ in range(3):
            export = get(gateway, f"{DECISIONS}/export")
            assert export.headers["content-type"] == "application/x-ndjson"
            decisions, given = events(export.body.decode())
            assert {one["decision_id"] for one in decisions} == told
            assert len(decisions) == len(told)
            assert [(one["score"], one["label"]) for one in given] == [(0.75, "x")]  # the last
        narrow, _ = events(get(gateway, f"{DECISIONS}/export?requested=sim-small").body.decode())
        assert {one["decision_id"] for one in narrow} == {
            one.headers["x-routeiq-decision-id"] for one in small
        }
        assert_error(get(gateway, f"{DECISIONS}/export?format=parquet"), 400, param="format")
        out = tmp_path / "out.jsonl"
        done = command("decisions", "export", "-o", out, database=database)
        assert done.returncode == 0, done.stderr
        assert events(out.read_text()) == (decisions, given)
        done = command(
            *("decisions", "export", "--format", "parquet", "-o", tmp_path / "out.parquet"),
            database=database,
        )
        assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["decision_id"] for row in table] == [one["decision_id"] for one in decisions]
    by_id = {row["decision_id"]: row for row in table}
    rated = by_id[answers[0].headers["x-routeiq-decision-id"]]
    assert rated["score"] == 0.75
    assert json.loads(rated["record"])["candidates"]
    assert {row["score"] for row in table} == {None, 0.75}
    listed = command("decisions", "list", "--json", "--limit", "5", database=database)
    assert [json.loads(line)["decision_id"] for line in listed.stdout.splitlines()] == [
        one["decision_id"] for one in decisions[:5]
    ]
    shown = command("decisions", "show", decisions[0]["decision_id"], database=database)
    assert json.loads(shown.stdout)["decision_id"] == decisions[0]["decision_id"]
    assert command("decisions", "show", "0" * 24, database=database).returncode == 1


def test_an_export_with_vectors_can_be_replayed(tmp_path: Path, sim: SimulatorProcess) -> None:
    artifact = train(tmp_path / "knn", "knn", sample(tmp_path / "data.jsonl", 120, 1))
    database = f"sqlite:///{tmp_path}/kept.db"
    section = config(sim, {"features": "vector"}, strategy="knn")
    models = tmp_path / "models"
    models.mkdir()
    placed(models, artifact)
    env = {"DATABASE_URL": database, "ROUTEIQ_MODELS_PATH": str(models)}
    section["routeiq"]["learning"] = {"time_budget_ms": 1000.0}
    with start_gateway(write(tmp_path, section), env=env) as gateway:
        for number in range(12):
            answer = chat(gateway, "auto", f"{(EASY, HARD)[number % 2]} {number}")
            assert answer.headers["x-routeiq-strategy"] == "knn"
        settle(gateway, 1)
    out = tmp_path / "out.jsonl"
    assert command("decisions", "export", "-o", out, database=database).returncode == 0
    decisions, _ = events(out.read_text())
    done = command("replay", "--log", out, "--artifact", artifact, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] == 12
    (one,) = found["strategies"]
    # The same artifact on the same vectors chooses what it chose when the requests came.
    assert one["agreement"] == pytest.approx(1.0)
    assert {row["chosen"] for row in decisions}


def age(database: str, decision: str, days: int) -> None:
    """Let a decision and its feedback be older than they are; on PostgreSQL in the partition of their day."""
    shift = f"SET time = time - {days * DAY_S} WHERE decision_id = '{decision}'"
    statements = [f"UPDATE {table} {shift}" for table in ("routeiq_decisions", "routeiq_feedback")]
    if database.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as file, file:
            for statement in statements:
                assert file.execute(statement).rowcount == 1
        return
    begin = (int(SystemClock().wall() // DAY_S) - days - 1) * int(DAY_S)  # or the day after
    with psycopg.connect(database, autocommit=True) as connection:
        for day in (begin, begin + int(DAY_S)):
            name = time.strftime("routeiq_decisions_p%Y%m%d", time.gmtime(day))
            bounds = f"FOR VALUES FROM ({day}) TO ({day + int(DAY_S)})"
            connection.execute(
                f"CREATE TABLE {name} PARTITION OF routeiq_decisions {bounds}".encode()
            )
        for statement in statements:
            assert connection.execute(statement.encode()).rowcount == 1


def test_what_is_old_enough_is_deleted(
    tmp_path: Path, sim: SimulatorProcess, database: str
) -> None:
    env = {"DATABASE_URL": database}
    path = write(tmp_path, config(sim, {"retention_days": 30.0}))
    with start_gateway(path, workers=2, env=env) as gateway:
        old, fresh = chat(gateway, "auto", EASY), chat(gateway, "auto", HARD)
        score(gateway, old, 1.0)
        score(gateway, fresh, 0.5)
    age(database, old.headers["x-routeiq-decision-id"], 5)
    with start_gateway(path, workers=2, env=env) as gateway:
        wait_until(lambda: pruned(gateway), "the job has run", 20.0)
        assert record_of(gateway, old)["feedback"] == 1.0  # five days of thirty
    write(tmp_path, config(sim, {"retention_days": 2.0}))
    with start_gateway(path, workers=2, env=env) as gateway:
        gone = f"{DECISIONS}/{old.headers['x-routeiq-decision-id']}"
        wait_until(lambda: get(gateway, gone).status == 404, "it is deleted", 20.0)
        wait_until(lambda: pruned(gateway), "the job has run", 20.0)
        late = {"decision_id": old.headers["x-routeiq-decision-id"], "score": 1}
        assert_error(post(gateway, FEEDBACK, late), 404)
        assert record_of(gateway, fresh)["feedback"] == 0.5
        decisions, given = events(get(gateway, f"{DECISIONS}/export").body.decode())
        assert len(decisions) == len(given) == 1


def pruned(gateway: Gateway) -> bool:
    """Whether one of the workers has done the retention job."""
    pages = each_worker(gateway, "sync", 2)
    return any(page["jobs"]["retention"]["runs"] > 0 for page in pages)
