"""`routeiq decisions`, as run from a shell, on a database that a gateway wrote."""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from routeiq.cli.decisions import decisions
from routeiq.embeddings.features import load_features
from routeiq.gateway.learning import LazyEncoder
from routeiq.state.decisions import SqlDecisions
from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import decision_record
from routeiq.training.reading import read
from routeiq.training.records import Record
from routeiq.training.replay import as_logged, read_decisions
from routeiq.types import Decision, Outcome, Ranked
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, STRONG, request

START = 1_800_000_000.0
COUNT = 6


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("database") / "routeiq.db"
    asyncio.run(fill(path))
    return f"sqlite:///{path}"


async def fill(path: Path) -> None:
    """Decisions 0 to 5 with features; every second one was rated."""
    clock = FakeClock()
    link = Link("database", clock)
    database = SqliteDatabase(path, link=link, clock=clock, durable=False)
    ledger = SqlDecisions(database)
    writer = DecisionStore(
        ledger, queue=100, flush_s=1.0, clock=clock, features="vector", encode=LazyEncoder()
    )
    for number in range(COUNT):
        chosen, other = (CHEAP, STRONG) if number % 2 else (STRONG, CHEAP)
        decision = Decision(
            id=f"{number:024x}",
            requested="auto",
            strategy="adaptive",
            reason="",
            ranking=tuple(
                Ranked(deployment=each, score=0.5, utility=0.5, cost_usd=0.01)
                for each in (chosen, other)
            ),
            propensity=0.5,
            propensities={"cheap": 0.5, "strong": 0.5},
        )
        outcome = Outcome(
            kind="success",
            status=200,
            deployment=chosen,
            attempts=(),
            latency_ms=1.0,
            cost_usd=0.01,
        )
        asked = request(f"What is {number} and {number}?")
        record = decision_record(asked, decision, outcome, key_alias="a", time_s=START + number)
        writer.add(record, asked, decision, outcome)
    await writer.flush()
    for number in range(0, COUNT, 2):
        await ledger.rate(
            {"decision_id": f"{number:024x}", "key": "a", "score": 0.75, "time": START}
        )
    await database.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(decisions, [str(one) for one in arguments])


def export(url: str, out: Path, *arguments: object) -> Result:
    return run("export", "--database-url", url, "-o", out, *arguments)


def test_the_latest_are_listed(url: str) -> None:
    done = run("list", "--database-url", url, "--limit", "3")
    assert done.exit_code == 0
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        f"{n:024x}" for n in (5, 4, 3)
    ]
    assert done.stdout.splitlines()[1].endswith("200  0.01  score 0.75")
    assert done.stdout.startswith("2027-01-15T08:00:05+00:00  ")


def test_filters_and_times(url: str) -> None:
    done = run(
        *("list", "--database-url", url, "--json", "--model", "cheap"),
        *("--since", "2027-01-15T08:00:03", "--until", START + 5),
    )
    (found,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (found["decision_id"], found["model"]) == (f"{3:024x}", "cheap")
    assert run("list", "--database-url", url, "--since", "soon").exit_code == 2


def test_one_is_shown(url: str) -> None:
    done = run("show", "--database-url", url, f"{2:024x}")
    found = json.loads(done.stdout)
    assert found["feedback"][0]["score"] == 0.75
    assert len(found["candidates"]) == 2
    missing = run("show", "--database-url", url, "0")
    assert (missing.exit_code, "no decision '0'" in missing.stderr) == (1, True)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = run("list", "--database-url", f"sqlite:///{tmp_path}/no.db")
    assert (done.exit_code, "there is no database" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_read_by_replay_and_training(url: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / "decisions.jsonl"
    done = export(url, out)
    assert (done.exit_code, done.stderr) == (0, f"{out}: {COUNT} decisions\n")
    records = [one for one in read([out]) if isinstance(one, Record)]
    assert {one.id for one in records} == {f"{n:024x}" for n in range(COUNT)}
    found = read_decisions(read([out]), features=load_features(cache=0))
    assert (len(found), found.logged, dict(found.left_out)) == (COUNT, True, {})
    assert sorted(found.reward[np.isfinite(found.reward)].tolist()) == [0.75] * 3
    assert found.propensity.tolist() == [0.5] * COUNT
    measured = as_logged(found)
    assert measured is not None
    assert measured.value == pytest.approx(0.75)
    events = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [one["kind"] for one in events].count("feedback") == 3
    vector = np.frombuffer(base64.b64decode(events[0]["features"]), "<f2")
    expected = load_features(cache=0).one(request("What is 5 and 5?"))
    np.testing.assert_allclose(vector, expected, atol=2e-3)


def test_parquet_has_a_row_a_decision(url: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "decisions.parquet"
    assert export(url, out, "--format", "parquet", "--until", START + 4).exit_code == 0
    table = parquet.read_table(out)
    assert table.num_rows == 4
    assert table["decision_id"].to_pylist() == [f"{n:024x}" for n in (3, 2, 1, 0)]
    assert table["score"].to_pylist() == [None, 0.75, None, 0.75]
    assert table["status"].to_pylist() == [200] * 4
    assert table["stream"].to_pylist() == [False] * 4
    assert table["team"].to_pylist() == [None] * 4
    assert len(json.loads(table["record"][0].as_py())["candidates"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.parquet"]


def test_parquet_without_pyarrow_says_what_to_install(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *given: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    done = export(url, tmp_path / "x.parquet", "--format", "parquet")
    assert (done.exit_code, "routeiq-router[train]" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = export(url, tmp_path / "file" / "x.jsonl")
    assert (done.exit_code, "cannot be written" in done.stderr) == (1, True)
    (tmp_path / "folder").mkdir()
    done = export(url, tmp_path / "folder")
    assert done.exit_code == 2
