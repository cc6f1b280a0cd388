"""The benchmark runs end to end against the real gateway and simulator; its figures mean nothing here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="CPU and memory are read from /proc"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("bench"),
]


def bench(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_smoke_run_fills_every_row_and_the_page(tmp_path: Path) -> None:
    out, page = tmp_path / "run.json", tmp_path / "page.md"
    printed = bench(
        *("run", "--smoke", "--columns", "none", "--generator", "python"),
        *("--out", str(out), "--page", str(page)),
    )
    assert "Load generator: python" in printed
    result: dict[str, Any] = orjson.loads(out.read_bytes())
    seen = {(row["scenario"], row["target"]) for row in result["rows"]}
    for scenario in ("plain", "stream", "spread", "slow", "spaced"):
        assert {(scenario, target) for target in ("direct", "routeiq", "bare")} <= seen
    assert ("auto", "routeiq") in seen
    assert sum(row["errors"] for row in result["rows"]) == 0
    plain = next(
        row for row in result["rows"] if (row["scenario"], row["target"]) == ("plain", "routeiq")
    )
    assert plain["cpu_ms"] > 0
    assert result["memory"][0]["rss_mb"] > 10
    assert result["startup"]["first_answer_s"] > 0
    assert result["decision"]["auto_candidates"] == 10
    assert "wrk is not installed" in page.read_text()


def test_short_soak_and_stalls_run_give_a_verdict(tmp_path: Path) -> None:
    printed = bench(
        *("soak", "--seconds", "4", "--connections", "50", "--generator", "python"),
        *("--out", str(tmp_path / "soak.json")),
    )
    assert "soak " in printed
    soak = orjson.loads((tmp_path / "soak.json").read_bytes())
    assert soak["requests"] > 0
    assert soak["errors"] == 0
    assert soak["background"]["200"] > 0
    out = tmp_path / "stalls.json"
    assert "stalls on uvloop" in bench(
        *("stalls", "--seconds", "2", "--generator", "python", "--out", str(out))
    )
    for loop in orjson.loads(out.read_bytes()):
        assert loop["debugging"], loop["loop"]
        assert loop["errors"] == 0


def test_a_column_that_is_not_installed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--columns", "litellm", "--others", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "install-others" in done.stderr
