"""`routeiq models data`, `import` and `export`, as run from a shell."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from routeiq.cli.models_data import data, export_, import_
from routeiq.training.errors import DataError

DATA = Path(__file__).parents[2] / "data" / "training"
COMMANDS = {"data": data, "import": import_, "export": export_}


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(COMMANDS[command], [str(one) for one in arguments])


def test_describing_a_file() -> None:
    done = run("data", DATA / "avengers_pro.jsonl")
    assert done.exit_code == 0
    assert "1 rows, 2 models, 0 preferences" in done.stdout
    assert "best single anthropic/claude-opus-4.1 0.9500" in done.stdout


def test_describing_for_a_machine(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes((DATA / "nvidia.jsonl").read_bytes() + b"{broken\n")
    done = run("data", bad, "--json", "--against", DATA / "nvidia.jsonl")
    document = orjson.loads(done.stdout)
    assert done.exit_code == 1
    assert (document["rows"], document["problems_total"]) == (1, 1)
    assert document["problems"][0].startswith(f"{bad}:2: not valid JSON")
    assert document["leakage"] == {
        "train_rows": 1,
        "test_rows": 1,
        "exact": 1,
        "near": 0,
        "share": 1.0,
    }


def test_bad_rows_are_complained_about(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes((DATA / "nvidia.jsonl").read_bytes() + b"{broken\n" * 30)
    done = run("data", bad)
    assert done.exit_code == 1
    assert f"problem: {bad}:2: not valid JSON" in done.stderr
    assert "problem: 30 in all" in done.stderr


def test_leakage_between_files() -> None:
    leaky = run("data", DATA / "rorf.jsonl", "--against", DATA / "rorf.jsonl")
    assert leaky.exit_code == 1
    assert "leakage: 1 exact and 0 near duplicates" in leaky.stdout
    assert run("data", DATA / "rorf.jsonl", "--against", DATA / "nvidia.jsonl").exit_code == 0


def test_importing_with_a_price_list(tmp_path: Path) -> None:
    out = tmp_path / "plain.jsonl"
    done = run("import", DATA / "llmrouter.jsonl", DATA / "llm_candidates.json", "--out", out)
    assert (done.exit_code, done.stderr) == (0, f"{out}: 2 rows\n")
    first = orjson.loads(out.read_bytes().splitlines()[0])
    assert first["route_text"] == "How many eggs?"
    assert first["costs"]["codegemma-7b"] == pytest.approx(0.0002)


def test_importing_around_bad_rows(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.jsonl", tmp_path / "plain.jsonl"
    bad.write_bytes((DATA / "nvidia.jsonl").read_bytes() + b"{broken\n")
    refused = run("import", bad, "--out", out)
    assert isinstance(refused.exception, DataError)
    assert not out.exists()
    done = run("import", bad, "--out", out, "--skip-bad-rows")
    assert (done.exit_code, out.read_bytes().count(b"\n")) == (0, 1)
    assert "bad.jsonl:2: not valid JSON" in done.stderr


def test_evaluation_data_is_not_read_by_accident(tmp_path: Path) -> None:
    refused = run("import", DATA / "routerarena.json", "--out", tmp_path / "x.jsonl")
    assert "--evaluation-only" in str(refused.exception)
    done = run("data", DATA / "routerarena.json", "--evaluation-only")
    assert done.exit_code == 0


def test_exporting(tmp_path: Path) -> None:
    plain = DATA / "plain.jsonl"
    done = run("export", plain, "--to", "llmrouter", "--out", tmp_path / "folder")
    assert done.stderr == f"{tmp_path / 'folder'}: 3 queries, 4 rows\n"
    done = run("export", plain, "--to", "plain", "--out", tmp_path / "x.jsonl")
    assert done.stderr == f"{tmp_path / 'x.jsonl'}: 3 rows\n"


def test_exporting_predictions(tmp_path: Path) -> None:
    scores, out = tmp_path / "scores.jsonl", tmp_path / "router.json"
    scores.write_text('{"id": "ArcMMLU_1", "scores": {"m": 0.1}}\n')
    asked = DATA / "routerarena.json"
    refused = run("export", asked, "--to", "routerarena", "--out", out)
    assert "--to routerarena needs --scores" in refused.stderr
    done = run("export", asked, "--to", "routerarena", "--out", out, "--scores", scores)
    assert (done.exit_code, done.stderr) == (0, f"{out}: 2 predictions\n")
