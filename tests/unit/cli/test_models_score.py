"""`routeiq models score` and `inspect`, as run from a shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from routeiq.cli.models_score import explained, inspect, score
from routeiq.exceptions import ConfigError
from routeiq.training.errors import DataError
from tests.support.artifacts import MODELS, tiny_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "knn"
    tiny_artifact(folder, "knn")
    return str(folder)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"id": 1, "route_text": "Hi", "costs": {"a": 0.1, "b": 0.01}}\n')
    return "in.jsonl"


def run(*words: str) -> Result:
    return CliRunner().invoke(score, [*words, "--out", "out.jsonl"])


def test_prompts_are_scored_by_the_prior(data: str) -> None:
    done = run("--strategy", "prior", "--data", data)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "out.jsonl: 1 rows\n")
    (line,) = Path("out.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["id"] == 1
    assert 1 > found["scores"]["a"] > found["scores"]["b"] > 0


def test_prompts_are_scored_by_an_artifact(data: str, artifact: str) -> None:
    Path(data).write_text('{"id": "x", "route_text": "Hi"}\n')
    assert run("--artifact", artifact, "--data", data).exit_code == 0
    assert set(json.loads(Path("out.jsonl").read_text())["scores"]) == set(MODELS)


def test_one_of_artifact_and_strategy_is_needed(data: str, artifact: str) -> None:
    both = ("--artifact", artifact, "--strategy", "prior")
    for words in ((), both, ("--strategy", "knn")):
        assert isinstance(run(*words, "--data", data).exception, ConfigError)
    assert not Path("out.jsonl").exists()


def test_a_bad_line_is_named(data: str) -> None:
    Path(data).write_text('\n{"id": 1}\n')
    done = run("--strategy", "prior", "--data", data)
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith("in.jsonl:2: `route_text`")


def test_files_that_are_not_there_are_usage_errors(data: str) -> None:
    assert run("--strategy", "prior", "--data", "nowhere").exit_code == 2
    assert run("--artifact", "nowhere", "--data", data).exit_code == 2


def test_inspecting_a_prompt(artifact: str) -> None:
    done = CliRunner().invoke(inspect, ["Prove it.", "--artifact", artifact])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("difficulty 0.")
    scores = [float(line.split()[1]) for line in lines[1:4]]
    assert scores == sorted(scores, reverse=True)
    assert {line.split()[0] for line in lines[1:4]} == set(MODELS)
    assert len(lines) > 4


def test_inspecting_for_a_machine(artifact: str) -> None:
    done = CliRunner().invoke(inspect, ["Prove it.", "--artifact", artifact, "--json"])
    found = json.loads(done.stdout)
    assert found["strategy"] == "knn"
    assert set(found["scores"]) == set(MODELS)
    assert found["explanation"]


def test_an_explanation_has_a_short_line_for_each_part() -> None:
    assert explained({"a": 1, "b": ["x"], "c": "y" * 999, "d": set}) == [
        "a: 1",
        'b: ["x"]',
        'c: "' + "y" * 299,
        "d: \"<class 'set'>\"",
    ]
