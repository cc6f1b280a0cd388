from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.exceptions import ConfigError
from routeiq.strategies.prior import difficulty, prior_score
from routeiq.strategies.quality import qualities
from routeiq.training import batch
from routeiq.training.batch import as_request, inspect_prompt, score_file
from routeiq.training.errors import DataError
from tests.support.artifacts import MODELS, tiny_artifact

HARD = "Prove that the sum of two continuous functions is continuous."


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def prior(tmp_path: Path, *rows: Any, name: str = "in.jsonl") -> list[dict[str, Any]]:
    out = tmp_path / "out.jsonl"
    data = write(tmp_path / name, *rows)
    count = score_file(artifact=None, strategy="prior", data=data, out=out)
    found = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert count == len(found)
    return found


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "knn"
    tiny_artifact(folder, "knn")
    return folder


def test_each_line_is_scored_for_its_own_models(tmp_path: Path) -> None:
    found = prior(
        tmp_path,
        {"id": "a", "route_text": HARD, "models": ["gpt-4o", "gpt-4o-mini"]},
        {"id": "b", "route_text": HARD, "models": ["gpt-4o-mini"]},
    )
    known = qualities({"gpt-4o": None, "gpt-4o-mini": None})
    hard = difficulty(as_request("x", HARD))
    expected = {name: pytest.approx(prior_score(known[name], hard), rel=1e-5) for name in known}
    assert found[0] == {"id": "a", "scores": expected}
    assert found[1] == {"id": "b", "scores": {"gpt-4o-mini": expected["gpt-4o-mini"]}}


def test_ids_are_written_as_they_were(tmp_path: Path) -> None:
    rows = [{"id": id, "route_text": "x", "models": ["a"]} for id in (7, "7", "")]
    assert [row["id"] for row in prior(tmp_path, *rows)] == [7, "7", ""]


def test_models_may_be_those_of_the_costs_and_null_is_nothing(tmp_path: Path) -> None:
    (row,) = prior(tmp_path, {"id": 1, "text": "x", "models": None, "costs": {"a": 0.1, "b": None}})
    assert set(row["scores"]) == {"a", "b"}


def test_the_prompt_may_be_called_otherwise(tmp_path: Path) -> None:
    rows = [{"id": 1, name: HARD, "models": ["a"]} for name in ("route_text", "text", "prompt")]
    first, *others = (row["scores"] for row in prior(tmp_path, *rows))
    assert others == [first, first]


def test_costs_are_means_over_the_file_so_that_a_rows_place_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"id": n, "route_text": f"{HARD} {n}", "costs": {"a": 0.001 * n, "b": 0.5 / n}}
        for n in range(1, 8)
    ]
    whole = prior(tmp_path, *rows)
    monkeypatch.setattr(batch, "BATCH", 2)
    assert prior(tmp_path, *rows) == whole
    turned = {row["id"]: row for row in prior(tmp_path, *rows[::-1])}
    for row in whole:
        assert turned[row["id"]]["scores"] == pytest.approx(row["scores"], rel=1e-6)
    known = qualities({"a": 0.004, "b": sum(0.5 / n for n in range(1, 8)) / 7})
    hard = difficulty(as_request("x", f"{HARD} 1"))
    assert whole[0]["scores"]["a"] == pytest.approx(prior_score(known["a"], hard), rel=1e-5)


def test_compressed_files_and_blank_lines_are_read(tmp_path: Path) -> None:
    row = {"id": 1, "route_text": "x", "models": ["a"]}
    assert len(prior(tmp_path, row, b"", b"  ", row, name="in.jsonl.gz")) == 2


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    assert prior(tmp_path, b"") == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"{", "is not JSON"),
        (b"[]", 'must be {"id", "route_text"'),
        ({"route_text": "x"}, "`id` must be"),
        ({"id": None, "route_text": "x"}, "`id` must be"),
        ({"id": True, "route_text": "x"}, "`id` must be"),
        ({"id": [1], "route_text": "x"}, "`id` must be"),
        ({"id": 1}, "`route_text` must be"),
        ({"id": 1, "route_text": 7}, "`route_text` must be"),
        ({"id": 1, "route_text": "x", "models": "gpt"}, "`models` must be"),
        ({"id": 1, "route_text": "x", "models": 7}, "`models` must be"),
        ({"id": 1, "route_text": "x", "models": [7]}, "`models` must be"),
        ({"id": 1, "route_text": "x", "costs": [1]}, "`costs` must be"),
        ({"id": 1, "route_text": "x", "costs": {"a": "1"}}, "`costs` must be"),
        ({"id": 1, "route_text": "x", "costs": {"a": True}}, "`costs` must be"),
        ({"id": 1, "route_text": "x", "costs": {"a": -1}}, "`costs` must be"),
        ({"id": 1, "route_text": "x"}, "names no `models`"),
        ({"id": 1, "route_text": "x", "models": []}, "names no `models`"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_nothing_is_written(
    tmp_path: Path, row: Any, says: str
) -> None:
    good = {"id": 0, "route_text": "x", "models": ["a"]}
    with pytest.raises(DataError, match=says) as raised:
        prior(tmp_path, good, b"", row)
    (problem,) = raised.value.problems
    assert (problem.file, problem.row) == (str(tmp_path / "in.jsonl"), 3)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b'{"id":1}\n' * 99, mtime=0)[:-12]])
def test_a_damaged_archive_is_an_error_of_the_data(tmp_path: Path, content: bytes) -> None:
    data = tmp_path / "in.jsonl.gz"
    data.write_bytes(content)
    with pytest.raises(DataError, match=r"in\.jsonl\.gz"):
        score_file(artifact=None, strategy="prior", data=data, out=tmp_path / "out")


def test_the_output_may_replace_its_input(tmp_path: Path) -> None:
    data = write(tmp_path / "x.jsonl", {"id": 1, "route_text": "x", "models": ["a"]})
    assert score_file(artifact=None, strategy="prior", data=data, out=data) == 1
    assert set(orjson.loads(data.read_bytes())) == {"id", "scores"}


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "x.jsonl", {"id": 1, "route_text": "x", "models": ["a"]})
    with pytest.raises(DataError, match="cannot be written: No such file"):
        score_file(artifact=None, strategy="prior", data=data, out=tmp_path / "no" / "out")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a file"):
        score_file(artifact=None, strategy="prior", data=tmp_path, out=tmp_path / "out")


def test_strategies_that_need_an_artifact_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "x.jsonl", {"id": 1, "route_text": "x"})
    with pytest.raises(ConfigError, match="without an artifact"):
        score_file(artifact=None, strategy="knn", data=data, out=tmp_path / "out")


def test_an_artifact_scores_its_own_models_where_none_are_named(
    tmp_path: Path, artifact: Path
) -> None:
    data = write(
        tmp_path / "x.jsonl",
        {"id": 1, "route_text": HARD},
        {"id": 2, "route_text": HARD, "models": ["new", "model-1"]},
    )
    score_file(artifact=artifact, strategy=None, data=data, out=tmp_path / "out")
    first, second = (orjson.loads(line) for line in (tmp_path / "out").read_bytes().splitlines())
    assert tuple(first["scores"]) == MODELS
    assert second["scores"]["model-1"] == first["scores"]["model-1"]
    mean = sum(first["scores"].values()) / 3
    assert second["scores"]["new"] == pytest.approx(mean, rel=1e-5)


def test_inspecting_says_what_is_predicted_and_from_what(artifact: Path) -> None:
    found = inspect_prompt(artifact, HARD)
    assert found["strategy"] == "knn"
    assert found["difficulty"] == difficulty(as_request("x", HARD))
    assert tuple(found["scores"]) == MODELS
    assert found["explanation"]
    assert len(found["version"]) == 32


def test_prompts_are_read_as_the_gateway_reads_them() -> None:
    request = as_request("x", "word " * 100_000)
    assert len(request.text) < 100_000
    assert request.input_tokens > 90_000
