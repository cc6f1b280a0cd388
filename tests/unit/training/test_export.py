"""Data for other routers: what is written can be read back."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest

from routeiq.training.errors import DataError
from routeiq.training.export import (
    export_llmrouter,
    export_plain,
    export_routerarena,
    question,
    scored,
)
from routeiq.training.reading import read, read_pairs
from routeiq.training.records import Preference, Record

DATA = Path(__file__).parents[2] / "data" / "training"
RECORDS = [
    Record(
        id="a",
        task="maths",
        text="What is 2 + 2?",
        scores={"m": 1.0, "n": 0.5},
        costs={"m": 0.25},
        latencies={"m": 1.5},
        output_tokens={"m": 12},
        split="train",
    ),
    Record(id="b", task="code", text="Größe?", scores={"n": 0.0}),
]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_plain_lines_come_back_as_they_went(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert export_plain(RECORDS, path) == 2
    assert list(read(path)) == RECORDS
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_the_same_data_is_the_same_file(tmp_path: Path) -> None:
    one, two = tmp_path / "1.jsonl.gz", tmp_path / "2.jsonl.gz"
    for path in (one, two):
        export_plain(RECORDS, path)
    assert gzip.decompress(one.read_bytes()) == gzip.decompress(two.read_bytes())
    first = orjson.loads(gzip.decompress(one.read_bytes()).splitlines()[1])
    assert first == {"id": "b", "task": "code", "route_text": "Größe?", "scores": {"n": 0.0}}


def test_preferences_come_back_as_they_went(tmp_path: Path) -> None:
    battles = list(read(DATA / "battles.jsonl"))
    path = tmp_path / "out.jsonl"
    assert export_plain(battles, path) == 3
    assert list(read(path)) == battles


def test_a_file_holds_one_kind(tmp_path: Path) -> None:
    battle = Preference(id="1", text="Why?", model_a="m", model_b="n", winner="a")
    with pytest.raises(DataError, match="cannot be written to one file"):
        export_plain([RECORDS[0], battle], tmp_path / "out.jsonl")
    with pytest.raises(DataError, match="no form for preferences"):
        export_llmrouter([battle], tmp_path / "folder")
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    battle = Preference(id="1", text="Why?", model_a="m", model_b="n", winner="a")
    with pytest.raises(DataError):
        export_plain([RECORDS[0], battle], path)
    assert path.read_text() == "old"
    with pytest.raises(DataError, match=r"none/out.jsonl: cannot be written: No such file"):
        export_plain(RECORDS, tmp_path / "none" / "out.jsonl")


def test_llmrouter_files(tmp_path: Path) -> None:
    counts = export_llmrouter(RECORDS, tmp_path / "new", prices={"m": (1e-6, 2e-6)})
    assert counts == (2, 3)
    queries = [
        orjson.loads(x) for x in (tmp_path / "new/query_data.jsonl").read_bytes().splitlines()
    ]
    assert queries[0] == {
        "task_name": "maths",
        "query": "What is 2 + 2?",
        "ground_truth": None,
        "metric": None,
        "choices": None,
        "task_id": "a",
    }
    rows = [
        orjson.loads(x) for x in (tmp_path / "new/routing_data.jsonl").read_bytes().splitlines()
    ]
    assert [(row["model_name"], row["performance"], row["embedding_id"]) for row in rows] == [
        ("m", 1.0, 0),
        ("n", 0.5, 0),
        ("n", 0.0, 1),
    ]
    assert (rows[0]["response_time"], rows[0]["completion_tokens"], rows[0]["cost"]) == (
        1.5,
        12,
        0.25,
    )
    candidates = orjson.loads((tmp_path / "new/llm_candidates.json").read_bytes())
    assert (candidates["m"]["input_price"], candidates["m"]["output_price"]) == (1.0, 2.0)
    assert candidates["n"]["input_price"] is None


def test_llmrouter_files_can_be_read_again(tmp_path: Path) -> None:
    export_llmrouter(RECORDS, tmp_path, prices={"m": (0.0, 1e-3), "n": (0.0, 0.0)})
    files = [tmp_path / "routing_data.jsonl", tmp_path / "llm_candidates.json"]
    first, second = read(files)
    assert isinstance(first, Record)
    assert (first.text, first.task, first.scores) == (
        "What is 2 + 2?",
        "maths",
        {"m": 1.0, "n": 0.5},
    )
    assert first.costs == {"m": pytest.approx(0.012)}  # 12 tokens
    assert second.text == "Größe?"


def test_routerarena_predictions(tmp_path: Path) -> None:
    asked = tmp_path / "router_data.json"
    asked.write_bytes(
        orjson.dumps(
            [
                {"global index": "A_1", "prompt": "raw", "prompt_formatted": "Pick one."},
                {"global index": "A_2", "prompt": "Pick two."},
            ]
        )
    )
    given = tmp_path / "scores.jsonl"
    given.write_text(
        '{"id": "A_1", "scores": {"m": 0.25, "n": 0.75}}\n{"id": "A_2", "scores": {"n": 0.5, "m": 0.5}}\n'
    )
    out = tmp_path / "router.json"
    scores = dict(read_pairs(given, scored))
    assert export_routerarena(read_pairs(asked, question), scores, out) == 2
    first, second = orjson.loads(out.read_bytes())
    assert first == {
        "global index": "A_1",
        "prompt": "Pick one.",
        "prediction": "n",
        "generated_result": None,
        "cost": None,
        "accuracy": None,
    }
    assert second["prediction"] == "m"  # a tie goes to the first name
    with pytest.raises(DataError, match="no scores for question 'A_2'"):
        export_routerarena(read_pairs(asked, question), {"A_1": {"m": 1}}, out)
    with pytest.raises(DataError, match="there is no `global index`"):
        list(read_pairs(DATA / "embedllm.csv", question))
    with pytest.raises(DataError, match=r"routerdc.json:1: there is no `id`"):
        list(read_pairs(DATA / "routerdc.json", scored))
