"""`routeiq models sample`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from routeiq.cli.models_sample import sample
from routeiq.training.build import build_table
from routeiq.training.reading import read


def test_a_sample_is_data_that_training_reads(tmp_path: Path) -> None:
    out = tmp_path / "data.jsonl"
    done = CliRunner().invoke(sample, ["--rows", "20", "--seed", "4", "--out", str(out)])
    assert (done.exit_code, done.stderr) == (0, f"{out}: 20 rows\n")
    table = build_table(read([out]))
    assert (len(table), len(table.models)) == (20, 5)
    first = out.read_bytes()
    CliRunner().invoke(sample, ["--rows", "20", "--seed", "4", "--out", str(out)])
    assert out.read_bytes() == first
    CliRunner().invoke(sample, ["--rows", "20", "--seed", "5", "--out", str(out)])
    assert out.read_bytes() != first
    assert set(json.loads(first.splitlines()[0])) == {
        "id",
        "task",
        "route_text",
        "scores",
        "costs",
    }


@pytest.mark.parametrize("words", [("--rows", "0", "--out", "x"), ("--rows", "5"), ("--out", ".")])
def test_wrong_options_are_usage_errors(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(sample, list(words)).exit_code == 2


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    out = tmp_path / "no" / "data.jsonl"
    done = CliRunner().invoke(sample, ["--rows", "2", "--out", str(out)])
    assert done.exit_code == 1
    assert f"Error: {out} cannot be written: No such file" in done.stderr
