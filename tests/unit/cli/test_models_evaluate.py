"""`routeiq models evaluate | compare | calibrate | card`, on a table that needs no features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.cli import models_evaluate
from routeiq.training import scoring
from routeiq.training.table import Matrix, Table

ROWS = 600
RNG = np.random.default_rng(11)
HARD = RNG.random(ROWS)
TRUTH = np.stack([0.93 - 0.5 * HARD, 0.9 - 0.2 * HARD], axis=1).astype(np.float32)
EMPTY = np.full((ROWS, 2), np.nan, dtype=np.float32)
TABLE = Table(
    ids=tuple(map(str, range(ROWS))),
    tasks=("",) * ROWS,
    models=("cheap", "dear"),
    features=np.zeros((ROWS, 1), dtype=np.float32),
    fingerprint="f",
    scores=(RNG.random((ROWS, 2)) < TRUTH).astype(np.float32),
    costs=np.tile(np.array([1e-4, 5e-4], dtype=np.float32), (ROWS, 1)),
    latencies=EMPTY,
    output_tokens=EMPTY,
    weights=np.ones(ROWS, dtype=np.float32),
    preferences=np.zeros((0, 4), dtype=np.float32),
    prior=HARD.astype(np.float32),
    digest="cd" * 32,
    texts=("a prompt",) * ROWS,
)


class KnownScorer:
    """Predicts the truth."""

    name = "known"
    models = TABLE.models

    def scores(self, table: Table) -> Matrix:
        """As the protocol says."""
        return TRUTH


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models_evaluate, "_table", lambda data: TABLE)
    monkeypatch.setattr(scoring, "open_scorer", lambda artifact, strategy: KnownScorer())
    monkeypatch.setattr(scoring, "prior_scores", lambda table: TRUTH * 0 + 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held.jsonl").write_text("")
    arrays = {"x": np.zeros(1, dtype=np.float32)}
    draft = Draft(strategy="knn", features="f", models=TABLE.models, arrays=arrays)
    write_artifact(tmp_path / "art", draft)
    return tmp_path


def run(name: str, *words: str) -> Result:
    return CliRunner().invoke(getattr(models_evaluate, name), list(words))


QUICK = ("--data", "held.jsonl", "--resamples", "20", "--no-litellm")


def test_evaluate_prints_and_writes(folder: Path) -> None:
    out = run("evaluate", "--artifact", "art", *QUICK, "--json", "new/r.json", "--html", "r.html")
    assert out.exit_code == 0, out.output
    assert "known" in out.output
    assert "oracle" in out.output
    report = json.loads((folder / "new/r.json").read_text())
    assert report["pair"] == ["dear", "cheap"]
    assert report["data_sha256"] == TABLE.digest
    assert (folder / "r.html").read_text().startswith("<!doctype html>")


def test_compare_takes_folders_and_names(folder: Path) -> None:
    out = run("compare", "art", "prior", *QUICK)
    assert out.exit_code == 0, out.output
    assert "differences to known (art)" in out.output
    assert "prior (evaluated)" in out.output


def test_calibrate_writes_a_new_version_with_certificate_and_card(folder: Path) -> None:
    words = ("--artifact", "art", "--data", "held.jsonl", "--reference", "dear")
    out = run("calibrate", *words, "--epsilon", "0.03", "--out", "two")
    assert out.exit_code == 0, out.output
    assert "certified: not worse than dear by more than 0.03" in out.output
    manifest = open_artifact(folder / "two").manifest
    assert [one["reference"] for one in manifest.certificates] == ["dear"]
    assert manifest.certificates[0]["data_sha256"] == TABLE.digest
    assert manifest.version != open_artifact(folder / "art").manifest.version
    assert "Not worse than `dear`" in open_artifact(folder / "two").read("card.md").decode()


def test_same_promise_replaces_another_stands_beside(folder: Path) -> None:
    words = ("--artifact", "art", "--data", "held.jsonl", "--reference", "dear", "--epsilon")
    for epsilon in ("0.03", "0.03", "0.05"):
        assert run("calibrate", *words, epsilon).exit_code == 0
    found = open_artifact(folder / "art").manifest.certificates
    assert [one["epsilon"] for one in found] == [0.03, 0.05]


def test_nothing_certified_is_an_error_and_changes_nothing(folder: Path) -> None:
    before = (folder / "art/manifest.json").read_bytes()
    words = ("--artifact", "art", "--data", "held.jsonl", "--reference", "dear")
    out = run("calibrate", *words, "--epsilon", "0.0001")
    assert out.exit_code == 1
    assert "nothing can be certified" in out.output
    assert (folder / "art/manifest.json").read_bytes() == before


def test_training_data_certifies_nothing(folder: Path) -> None:
    arrays = {"x": np.zeros(1, dtype=np.float32)}
    draft = Draft(
        strategy="knn", features="f", models=TABLE.models, arrays=arrays, data_sha256=TABLE.digest
    )
    write_artifact(folder / "own", draft)
    out = run("calibrate", "--artifact", "own", "--data", "held.jsonl", "--reference", "dear")
    assert out.exit_code == 2
    assert "rows it never saw" in out.output
    assert "flatter it" in run("evaluate", "--artifact", "own", *QUICK).output


def test_card_prints_and_updates(folder: Path) -> None:
    assert "Not stated." in run("card", "--artifact", "art").output
    run("evaluate", "--artifact", "art", *QUICK, "--json", "r.json")
    words = ("--artifact", "art", "--source", "our logs", "--licence", "MIT")
    out = run("card", *words, "--metrics", "r.json")
    assert out.exit_code == 0, out.output
    assert "- our logs" in out.output
    assert "evaluation.aiq" in out.output
    assert open_artifact(folder / "art").read("card.md").decode() in out.output
    (folder / "bad.json").write_text("[]")
    assert "not a report" in run("card", "--artifact", "art", "--metrics", "bad.json").output
