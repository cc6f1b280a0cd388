from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from routeiq.artifacts.artifact import open_artifact
from routeiq.artifacts.signature import verifier_from
from routeiq.embeddings.features import load_features
from routeiq.exceptions import ConfigError
from routeiq.simulator.sample import prompts, rows
from routeiq.training.errors import DataError
from routeiq.training.produce import (
    ENOUGH_LABELS,
    ENOUGH_ROWS,
    FEWEST_ROWS,
    Order,
    distinct,
    produce,
    tied,
    warnings,
)
from routeiq.training.scoring import open_scorer
from tests.support.artifacts import tiny_table
from tests.support.estimators import table

SECRET = "ab" * 32


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def data(path: Path, count: int = 60, *, seed: int = 1, again: int = 0) -> Path:
    """Rows of the simulator's models; the first `again` texts stand there twice."""
    lines = list(rows(list(prompts(count, seed))))
    lines += [{**line, "id": f"again-{line['id']}"} for line in lines[:again]]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def order(tmp_path: Path, **more: Any) -> Order:
    given: dict[str, Any] = {
        "strategy": "knn",
        "files": (tmp_path / "in.jsonl",),
        "out": tmp_path / "art",
    }
    return Order(**(given | more))


def test_an_artifact_has_what_serving_and_people_need(tmp_path: Path) -> None:
    data(tmp_path / "in.jsonl")
    told: list[str] = []
    manifest = produce(order(tmp_path, sources=("our logs, MIT",)), told.append)
    opened = open_artifact(tmp_path / "art")
    assert opened.manifest.version == manifest.version
    assert (manifest.strategy, manifest.features) == ("knn", load_features().fingerprint)
    assert "sim-nano" in manifest.models
    assert manifest.settings["rows"] == 60
    assert manifest.settings["features"] == "static"
    assert manifest.settings["prior_weight"] == 0.0
    assert manifest.metrics["held_out_rows"] > 0
    assert len(manifest.data_sha256) == 64
    assert "- our logs, MIT" in opened.read("card.md").decode()
    assert told[0] == f"reading {tmp_path / 'in.jsonl'}"
    assert any(line.startswith("60 rows, 5 models") for line in told)
    assert told[-1] == f"writing {tmp_path / 'art'}"


def test_the_same_data_and_seed_give_the_same_weights(tmp_path: Path) -> None:
    data(tmp_path / "in.jsonl")
    made = [produce(order(tmp_path, out=tmp_path / n), lambda _: None) for n in ("a", "b")]
    assert made[0].data_sha256 == made[1].data_sha256
    first, second = (m.files["weights.safetensors"].sha256 for m in made)
    assert first == second


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_share_of_the_prior_is_the_operators(tmp_path: Path, weight: float) -> None:
    data(tmp_path / "in.jsonl", 20)
    manifest = produce(order(tmp_path, prior_weight=weight), lambda _: None)
    assert manifest.settings["prior_weight"] == weight


def test_an_artifact_is_signed_where_a_key_is_given(tmp_path: Path) -> None:
    data(tmp_path / "in.jsonl", 20)
    manifest = produce(order(tmp_path, hmac_key=SECRET), lambda _: None)
    assert manifest.signature is not None
    verifier = verifier_from(public_key=None, hmac_key=SECRET, required=True)
    assert open_artifact(tmp_path / "art", verifier=verifier).manifest == manifest


def test_a_key_that_cannot_be_used_is_told_before_anything_is_read(tmp_path: Path) -> None:
    told: list[str] = []
    for keys in ({"hmac_key": "short"}, {"hmac_key": SECRET, "private_key": "ab" * 32}):
        with pytest.raises(ConfigError):
            produce(order(tmp_path, **keys), told.append)
    assert told == []


def test_what_threshold_trains_is_an_artifact_that_threshold_can_use(tmp_path: Path) -> None:
    data(tmp_path / "in.jsonl", 30)
    manifest = produce(order(tmp_path, strategy="threshold"), lambda _: None)
    assert manifest.strategy == "hybrid"
    assert open_scorer(tmp_path / "art", None).models == manifest.models


def test_texts_that_are_there_twice_count_once(tmp_path: Path) -> None:
    data(tmp_path / "in.jsonl", 20, again=7)
    told: list[str] = []
    manifest = produce(order(tmp_path), told.append)
    assert manifest.settings["rows"] == 20
    assert "merged 7 rows whose text was there before" in told


@pytest.mark.parametrize(("count", "again"), [(FEWEST_ROWS - 1, 0), (FEWEST_ROWS - 1, 5)])
def test_too_few_different_rows_are_refused(tmp_path: Path, count: int, again: int) -> None:
    data(tmp_path / "in.jsonl", count, again=again)
    with pytest.raises(DataError, match="9 rows with different texts are too few"):
        produce(order(tmp_path), lambda _: None)
    assert not (tmp_path / "art").exists()


def test_bad_rows_are_named_by_file_and_number(tmp_path: Path) -> None:
    path = data(tmp_path / "in.jsonl", 12)
    bad = {"id": "x", "route_text": "x", "scores": {"m": 7}}
    path.write_bytes(path.read_bytes() + b"{broken\n" + orjson.dumps(bad) + b"\n")
    with pytest.raises(DataError) as raised:
        produce(order(tmp_path), lambda _: None)
    assert [problem.row for problem in raised.value.problems] == [13, 14]
    assert str(raised.value).startswith(f"{path}:13: not valid JSON")


@pytest.mark.parametrize("more", [{"strategy": "nobody"}, {"strategy": "prior"}])
def test_what_cannot_be_trained_is_told(tmp_path: Path, more: dict[str, Any]) -> None:
    data(tmp_path / "in.jsonl", 20)
    with pytest.raises(DataError, match="Choose one of"):
        produce(order(tmp_path, **more), lambda _: None)


def test_distinct_rows_are_left_as_they_are() -> None:
    data, told = tiny_table(12), list[str]()
    assert distinct(data, progress=told.append) is data
    assert told == []


def test_enough_rows_of_different_scores_raise_no_warning() -> None:
    assert warnings(tiny_table(ENOUGH_ROWS)) == []


def test_few_rows_and_few_labels_are_warned_about() -> None:
    data = tiny_table(ENOUGH_ROWS)
    scores = data.scores.copy()
    scores[ENOUGH_LABELS - 1 :, 1] = np.nan
    (labels,) = warnings(replace(data, scores=scores))
    assert labels.startswith("fewer than 50 labels for model-1 (49)")
    few = warnings(tiny_table(60))
    assert few[0].startswith("60 rows are few")
    assert len(few) == 1


def test_a_comparison_is_a_label_of_both_models() -> None:
    data = tiny_table(ENOUGH_ROWS)
    nothing = np.full_like(data.scores, np.nan)
    compared = np.array([[row, 0, 1, 1.0] for row in range(60)], np.float32)
    (said,) = warnings(replace(data, scores=nothing, preferences=compared))
    assert "model-2 (0)" in said
    assert "model-0" not in said


def test_many_ties_are_called_fine() -> None:
    data = tiny_table(ENOUGH_ROWS)
    (said,) = warnings(replace(data, scores=np.ones_like(data.scores)))
    assert said.startswith("in 100% of the rows all models are equally good. That is fine")


def test_ties_are_counted_among_rows_with_several_scores() -> None:
    nan = float("nan")
    scores = [[1, 1, nan], [1, 0, nan], [nan, 0.5, 0.5], [nan, nan, 1], [nan, nan, nan]]
    data = table(np.zeros((5, 1), np.float32), np.array(scores, np.float32))
    assert tied(data) == pytest.approx(2 / 3)
    assert tied(data.take(np.array([3, 4]))) == 0.0
