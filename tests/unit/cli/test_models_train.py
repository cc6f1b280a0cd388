"""`routeiq models train`, as run from a shell."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from routeiq.artifacts.artifact import open_artifact
from routeiq.cli.main import main
from routeiq.cli.models_train import summary, train
from routeiq.simulator.sample import prompts, rows


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the command sets them where they are not
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = rows(list(prompts(60, 1)))
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(train, ["--strategy", "knn", "--out", "art", *map(str, words)])


def test_training_tells_its_steps_its_figures_and_what_comes_next(data: Path) -> None:
    done = run("--data", data, "--source", "our logs")
    assert done.exit_code == 0, done.output
    manifest = open_artifact(Path("art")).manifest
    lines = done.stdout.splitlines()
    assert lines[0] == f"art: knn {manifest.version[:12]}, 5 models"
    assert any(line.startswith("  best_single ") for line in lines)
    assert lines[-1].startswith("Next: routeiq models evaluate --artifact art")
    assert "s  reading" in done.stderr
    assert "warning: 60 rows are few" in done.stderr


def test_quiet_and_json_are_for_machines(data: Path) -> None:
    done = run("--data", data, "--quiet", "--json", "--prior-weight", "0.5", "--seed", "3")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["strategy"], document["settings"]["prior_weight"]) == ("knn", 0.5)
    assert document["settings"]["seed"] == 3


def test_a_new_artifact_replaces_an_older_one(data: Path) -> None:
    versions = set()
    for seed in ("0", "1"):
        assert run("--data", data, "--max-rows", 20, "--seed", seed).exit_code == 0
        versions.add(open_artifact(Path("art")).manifest.version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    "words",
    [("--prior-weight", "2"), ("--max-rows", "0"), ("--seed", "-1"), ("--data", "nowhere")],
)
def test_options_out_of_range_are_usage_errors(data: Path, words: tuple[str, ...]) -> None:
    assert run("--data", data, *words).exit_code == 2


def test_a_file_cannot_be_the_artifacts_folder(data: Path) -> None:
    Path("art").write_text("mine")
    assert run("--data", data).exit_code == 2
    assert Path("art").read_text() == "mine"


def shell(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The exit code of the whole program."""
    monkeypatch.setattr(sys, "argv", ["routeiq", "models", "train", "--out", "art", *words])
    with pytest.raises(SystemExit) as raised:
        main()
    return raised.value.code


def test_problems_of_the_data_are_shown_with_their_rows(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = b'{"id": "x", "route_text": "x", "scores": {"m": 7}}\n{broken\n'
    data.write_bytes(data.read_bytes() + bad)
    assert shell(monkeypatch, "--data", str(data)) == 1
    said = capsys.readouterr().err
    assert f"error: {data}:61: the score of 'm' must be from 0 to 1" in said
    assert f"{data}:62: not valid JSON" in said
    assert "Traceback" not in said


def test_a_bad_key_is_a_mistake_of_the_configuration(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell(monkeypatch, "--data", str(data), "--hmac-key", "short") == 2
    assert "is neither hex nor base64" in capsys.readouterr().err


def test_the_summary_shows_figures_and_leaves_out_what_has_parts() -> None:
    text = summary({"aiq": 0.61234, "rows": 80, "note": "x", "per_model": {"a": 1}})
    assert text.split() == ["aiq", "0.6123", "rows", "80", "note", "x"]
