"""The report as a whole: figures, text, JSON, page, plots, comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from routeiq.training.errors import DataError
from routeiq.training.evaluation import compare as comparing
from routeiq.training.evaluation.html import comparison_html, report_html
from routeiq.training.evaluation.outcomes import Outcomes, outcomes
from routeiq.training.evaluation.plots import write_plots
from routeiq.training.evaluation.report import (
    ORACLE,
    RANDOM,
    SINGLES,
    Report,
    Settings,
    evaluate,
)
from routeiq.training.evaluation.tables import comparison_text, grid, report_text

EVIL = '<script src="https://x.test/a.js">$_{'
ROWS = 300
SETTINGS = Settings(resamples=100, litellm=False)


def synthetic(models: tuple[str, ...] = ("small", EVIL, "large")) -> tuple[Outcomes, np.ndarray]:
    rng = np.random.default_rng(2)
    hard = rng.random(ROWS)
    levels = np.linspace(0.3, 0.9, len(models))
    truth = np.clip(levels + 0.5 * (0.5 - hard[:, None]), 0.02, 0.98)
    scores = (rng.random(truth.shape) < truth).astype(float)
    scores[:20, 1] = np.nan
    costs = np.array([[1e-4 * 3**m for m in range(len(models))]] * ROWS)
    tasks = tuple("easy" if h < 0.5 else "_hard" for h in hard)
    texts = tuple("x" * int(1 + 100 * h) for h in hard)
    found = outcomes(models, scores, costs, tasks=tasks, texts=texts, difficulty=hard)
    return found, truth


DATA, TRUTH = synthetic()


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate({"known": TRUTH}, DATA, SETTINGS, prior=TRUTH * 0 + 0.5, data_sha256="ab" * 32)


def test_every_baseline_stands_beside(report: Report) -> None:
    names = [each.name for each in report.entries]
    beside = ["prior", "difficulty alone", "prompt length", RANDOM, SINGLES, ORACLE]
    assert names == ["known", *beside]
    assert [e.kind for e in report.entries if e.name in ("known", ORACLE)] == ["strategy", "bound"]
    assert report.reference == "large"


def test_what_must_hold_between_the_lines(report: Report) -> None:
    oracle, random = report.entry(ORACLE).metrics, report.entry(RANDOM).metrics
    known, mix = report.entry("known").metrics, report.entry(SINGLES).metrics
    assert oracle["oracle_gap"] == 0.0
    assert mix["gain"] == 0.0
    assert mix["saved"] == pytest.approx(0.0)
    assert mix["aiq_gain"] == 0.0
    assert oracle["aiq"] > known["aiq"] > random["aiq"]
    for each in report.entries:
        for name, (low, high) in each.intervals.items():
            assert np.isnan(low) or low <= high, name
    low, high = report.entry("known").intervals["accuracy"]
    assert low <= known["accuracy"] <= high
    with pytest.raises(KeyError):
        report.entry("nobody")


def test_tasks_are_shown_apart(report: Report) -> None:
    parts = {each.task: each for each in report.slices["known"]}
    assert set(parts) == {"easy", "_hard"}
    assert sum(each.rows for each in parts.values()) == ROWS
    assert parts["easy"].metrics["accuracy"] > parts["_hard"].metrics["accuracy"]


def test_json_has_no_nan(report: Report) -> None:
    text = json.dumps(report.as_json(), allow_nan=False)
    assert json.loads(text)["entries"][0]["name"] == "known"


def test_text_names_everything(report: Report) -> None:
    text = report_text(report)
    for word in ("known", "oracle", "AIQ", "reference large", "by task", "note: LiteLLM"):
        assert word in text


def test_page_escapes_names_and_loads_nothing(report: Report) -> None:
    page = report_html(report, title="<b>&")
    assert "<script" not in page
    assert "&lt;script src=&quot;https://x.test/a.js&quot;&gt;" in page
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert page.count("<svg") == 3
    outside = re.findall(
        r'(?:src|href|url)\s*[=(]\s*["\']?(?!#)([^"\')>]+)', page.replace("&quot;", "")
    )
    assert [
        each for each in outside if each.startswith(("http", "//")) and "x.test" not in each
    ] == []
    assert "default-src 'none'" in page


def test_plots_are_written(report: Report, tmp_path: Path) -> None:
    written = write_plots(report, tmp_path / "new", suffixes=(".svg",))
    assert {path.name for path in written} == {
        "cost_quality.svg",
        "calibration.svg",
        "shares_known.svg",
    }
    assert all(path.read_text().startswith("<?xml") for path in written)


def test_two_models_get_pair_figures() -> None:
    data, truth = synthetic(("weak", "strong"))
    found = evaluate({"known": truth}, data, SETTINGS)
    assert found.pair == ("strong", "weak")
    assert found.entry(RANDOM).metrics["apgr"] == 0.5
    assert found.entry(ORACLE).metrics["apgr"] > 0.5
    assert "cpt_80" in found.entry("known").intervals


def test_without_costs_the_rest_is_reported() -> None:
    data = outcomes(DATA.models, DATA.scores)
    found = evaluate({"known": TRUTH}, data, SETTINGS)
    assert not found.priced
    assert "aiq" not in found.entry("known").metrics
    assert "accuracy" in report_text(found)
    assert report_html(found).count("<svg") == 1


def test_a_reference_can_be_named_and_must_exist() -> None:
    found = evaluate(
        {"known": TRUTH}, DATA, Settings(reference="small", resamples=0, litellm=False)
    )
    assert found.reference_given
    assert found.entry("known").metrics["gain"] > 0.1
    assert found.entry("known").intervals == {}
    with pytest.raises(DataError, match="no model 'huge'"):
        evaluate({"known": TRUTH}, DATA, Settings(reference="huge", litellm=False))
    with pytest.raises(DataError, match="predicts"):
        evaluate({"known": TRUTH[:5]}, DATA, SETTINGS)


def test_comparison_tells_good_from_bad() -> None:
    found = comparing.compare({"known": TRUTH, "turned": 1.0 - TRUTH}, DATA, SETTINGS)
    by_metric = {each.metric: each for each in found.differences}
    assert by_metric["accuracy"].value < -0.1
    assert by_metric["accuracy"].clear
    same = comparing.compare({"a": TRUTH, "b": TRUTH.copy()}, DATA, SETTINGS)
    assert {each.value for each in same.differences if each.metric == "aiq"} == {0.0}
    assert not any(each.clear for each in same.differences)
    assert "clear" in comparison_text(found)
    json.dumps(found.as_json(), allow_nan=False)
    with pytest.raises(DataError, match="two strategies"):
        comparing.compare({"a": TRUTH}, DATA)


def test_comparison_page_begins_with_the_differences() -> None:
    data = outcomes(DATA.models, DATA.scores)
    found = comparing.compare({"a<b": TRUTH, "turned": 1.0 - TRUTH}, data, SETTINGS)
    assert "<h2>Differences to a&lt;b</h2>" in comparison_html(found)


def test_columns_are_aligned() -> None:
    assert grid([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
