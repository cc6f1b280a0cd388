"""The benchmark of the strategies: its split, what it keeps of earlier runs, its judgement, and the page."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bench import decisions, footprint, made_up, strategies
from bench.strategy_report import plot, read_result, summary
from bench.strategy_sets import Measurement, chance_ece, short
from routeiq.artifacts.artifact import open_artifact
from routeiq.config.loader import load_config
from routeiq.embeddings.static import open_table
from routeiq.registry import BUILTIN_STRATEGIES
from routeiq.training.evaluation.outcomes import outcomes
from routeiq.training.scoring import ArtifactScorer

ROOT = Path(__file__).parents[2]
TOPICS = ("recipe for bread", "integral of a function", "capital of a country", "bug in a program")


def data(path: Path, *, rows: int = 300, models: int = 3) -> Path:
    """Labelled rows: each model is good at one topic, the last one at all and dear. Every prompt comes twice."""
    rng = np.random.default_rng(5)
    names = [f"model-{index}" for index in range(models)]
    lines = []
    for number in range(rows):
        topic = number // 2 % len(TOPICS)
        good = [0.9 if topic == index or index == models - 1 else 0.3 for index in range(models)]
        row = {
            "id": str(number),
            "task": f"task {topic}",
            "route_text": f"Question {number // 2} on the {TOPICS[topic]}",
            "scores": dict(
                zip(names, (rng.random(models) < good).astype(float).tolist(), strict=True)
            ),
            "costs": {name: 10.0 ** (index - 4) for index, name in enumerate(names)},
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


def run(file: Path, out: Path, *more: str) -> dict[str, Any]:
    """Measure one strategy quickly; what was written."""
    given = [
        "--data",
        str(file),
        "--out",
        str(out),
        "--strategies",
        "logistic",
        "--resamples",
        "20",
    ]
    strategies.main([*given, "--few", *more])
    found = read_result(out / f"{file.name.partition('.')[0]}.json")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A file, the folder of its results, and the results."""
    folder = tmp_path_factory.mktemp("sets")
    file = data(folder / "made_up.train.jsonl")
    return file, folder / "out", run(file, folder / "out")


def script() -> ModuleType:
    """scripts/generate_strategies.py."""
    path = ROOT / "scripts/generate_strategies.py"
    spec = importlib.util.spec_from_file_location("generate_strategies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equal_prompts_fall_on_one_side(tmp_path: Path) -> None:
    found = Measurement(data(tmp_path / "a.jsonl"), seed=0, resamples=0)
    train, test = found._train, found._test
    assert len(train) + len(test) == 300
    assert 0.2 < len(test) / 300 < 0.4
    assert train.texts is not None
    assert test.texts is not None
    assert not set(train.texts) & set(test.texts)


def test_baselines_and_strategies_are_judged_on_the_same_rows(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    result = measured[2]
    assert result["reference"] == "model-2"
    best = result["baselines"]["mix of singles"]["metrics"]
    oracle = result["baselines"]["oracle"]["metrics"]
    logistic = result["strategies"]["logistic"]
    assert best["aiq"] < logistic["metrics"]["aiq"] < oracle["aiq"]
    low, high = logistic["intervals"]["aiq_gain"]
    assert low <= logistic["metrics"]["aiq_gain"] <= high
    assert logistic["curve"] == sorted(logistic["curve"])
    assert logistic["artifact_mb"] > 0
    assert "logistic" in summary(result, "logistic")


def test_what_is_written_names_the_file_and_no_folder(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    file, out, result = measured
    assert result["file"] == file.name
    assert str(file.parent) not in (out / "made_up.json").read_text()
    assert "--data made_up.train.jsonl " in result["command"]


def test_a_run_goes_on_where_an_earlier_one_stopped(tmp_path: Path) -> None:
    file, out = data(tmp_path / "set.jsonl", rows=120), tmp_path / "out"
    first = run(file, out)
    first["strategies"]["logistic"]["date"] = "kept"
    (out / "set.json").write_text(json.dumps(first))
    assert run(file, out)["strategies"]["logistic"]["date"] == "kept"
    assert run(file, out, "--again", "logistic")["strategies"]["logistic"]["date"] != "kept"


def test_figures_of_another_split_are_not_kept(tmp_path: Path) -> None:
    file, out = data(tmp_path / "set.jsonl", rows=120), tmp_path / "out"
    first = run(file, out)
    first["strategies"]["logistic"]["date"] = "old"
    (out / "set.json").write_text(json.dumps(first))
    again = run(file, out, "--seed", "1")
    assert again["strategies"]["logistic"]["date"] != "old"
    assert again["seed"] == 1


def test_a_strong_and_a_weak_model_are_compared_by_task(tmp_path: Path) -> None:
    file = data(tmp_path / "pair.jsonl", rows=400, models=2)
    result = run(file, tmp_path / "out")
    assert result["pair"] == ["model-1", "model-0"]
    assert set(result["tasks"]) == {f"task {index}" for index in range(4)}
    by_task = result["strategies"]["logistic"]["by_task"]
    assert set(by_task) == set(result["tasks"])
    text = script().pair_table(result)
    assert "`model-1` against `model-0`" in text
    assert "| logistic |" in text


def test_few_labels_are_means_over_subsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.strategy_sets.FEW_KIND", "logistic")
    found = Measurement(data(tmp_path / "a.jsonl"), seed=0, resamples=0).few((60, 100_000))
    assert list(found["by_rows"]) == ["60"]
    assert 0.3 < found["by_rows"]["60"]["accuracy"] < 1.0


def test_the_plot_is_the_same_bytes_each_time(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, out, result = measured
    drawn = plot(result)
    assert drawn == plot(json.loads(json.dumps(result)))
    assert (out / "made_up.svg").read_text() == drawn
    assert "logistic" in drawn


def test_few_rows_show_a_calibration_error_by_chance() -> None:
    q = np.full((4000, 2), 0.5)
    many = outcomes(("a", "b"), np.zeros((4000, 2)))
    few = outcomes(("a", "b"), np.zeros((40, 2)))
    assert chance_ece(q, many, seed=0) < 0.02
    assert 0.03 < chance_ece(q[:40], few, seed=0) < 0.13  # sqrt(0.25 / 40 * 2 / pi) is 0.063


@pytest.mark.parametrize(
    ("value", "wanted"), [(0.1234567, 0.12346), (float("nan"), None), (float("-inf"), None)]
)
def test_numbers_are_short_and_finite(value: float, wanted: float | None) -> None:
    assert short(value) == wanted


# -- the page ------------------------------------------------------------------------------------------------


def test_the_page_is_up_to_date() -> None:
    module = script()
    (name,) = module.generated()
    assert (ROOT / name).read_text() == module.generated()[name], "run `make docs`"


def test_every_strategy_has_a_heading() -> None:
    lines = (ROOT / script().PAGE).read_text().splitlines()
    headings = {line.lstrip("#").strip() for line in lines if line.startswith("##")}
    assert set(BUILTIN_STRATEGIES) <= headings


def test_every_option_of_a_strategy_is_on_the_page_with_its_meaning() -> None:
    module = script()
    for name in BUILTIN_STRATEGIES:
        for row in module.options_table(name).splitlines()[2:]:
            meaning = row.split("|")[-2].strip()
            assert meaning, row
    assert "| `exploration` | number, from 0, to 0.5 | `0.015` |" in module.options_table(
        "adaptive"
    )


def test_parts_are_filled_and_the_rest_is_left_alone() -> None:
    module = script()
    text = "before\n<!-- generated: options cost-aware -->\nold\n<!-- end -->\nafter\n"
    once = module.filled(text)
    assert once.startswith("before\n<!-- generated: options cost-aware -->\n| option |")
    assert once.endswith("<!-- end -->\nafter\n")
    assert "old" not in once
    assert module.filled(once) == once


def test_a_part_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        script().filled("<!-- generated: nonsense -->\n<!-- end -->")


def test_tables_say_what_was_measured(measured: tuple[Path, Path, dict[str, Any]]) -> None:
    module, result = script(), measured[2]
    text = module.results_of(result)
    metrics = result["strategies"]["logistic"]["metrics"]
    assert f"| logistic | {metrics['accuracy']:.3f} | {metrics['at_100']:.3f} |" in text
    assert "| best single (AIQ: mix of singles) |" in text
    assert "best single model `model-2`" in text


# -- decisions -----------------------------------------------------------------------------------------------


def test_made_up_prompts_are_distinct_and_as_long_as_asked_for() -> None:
    tokenizer = open_table().tokenizer()
    found = list(made_up.texts(40, 200, seed=3))
    assert len(set(found)) == 40
    lengths = [len(tokenizer.encode(text)) for text in found]
    assert min(lengths) >= 190
    assert max(lengths) <= 240


def test_a_made_up_artifact_serves(tmp_path: Path) -> None:
    table = made_up.table(80, models=4)
    folder = made_up.artifact("cluster", table, tmp_path)
    scores = ArtifactScorer(open_artifact(folder)).scores(table)
    assert scores.shape == (80, 4)


def test_many_rows_are_near_those_they_come_from() -> None:
    base = made_up.table(30, models=3)
    wide = made_up.many_rows(base, 200)
    assert len(wide) == len(set(wide.ids)) == 200
    assert np.allclose(np.linalg.norm(wide.features[:, :256], axis=1), 1.0, atol=1e-4)


def test_a_decision_and_its_parts_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "WARM", 5)
    folder = made_up.artifact("cluster", made_up.table(80), tmp_path)
    requests = list(made_up.stream(25, 50, seed=1))
    learned = decisions.router_for("cluster", folder, tmp_path)
    plain = decisions.router_for("prior", None, tmp_path)
    assert learned.decide(requests[0]).strategy == "cluster"
    run = decisions.one_round(learned, requests)
    assert {part: len(times) for part, times in run.items()} == dict.fromkeys(decisions.PARTS, 20)
    assert min(run["decide"]) > 0
    assert list(decisions.one_round(plain, requests)) == ["score", "decide"]


def test_quantiles_and_the_best_round() -> None:
    slow = {"score": [2.0] * 99 + [9.0]}
    quick = {"score": [1.0] * 98 + [30.0] * 2}
    assert decisions.quantile(quick["score"], 0.5) == 1.0
    assert decisions.best([slow, quick]) == {
        "score": {
            "p50_ms": 1.0,
            "p99_ms": 9.0,
            "p99_of_best_ms": 9.0,
            "worst_round_p99_ms": 30.0,
        }
    }


def test_bounds_of_a_decision() -> None:
    fine = {"p50_ms": 0.09, "p99_ms": 0.3}
    slow = {"p50_ms": 0.3, "p99_ms": 0.6}
    large = {"features": fine, "decide": {"p50_ms": 0.4, "p99_ms": 0.5}}
    result = {
        "strategies": {
            "good": {"features": fine, "decide": fine},
            "bad": {"features": slow, "decide": slow},
            decisions.KNN_LARGE: large,
        },
        "loop_lag": {"good": {"cpu_p99_ms": 0.4}, "bad": {"cpu_p99_ms": 2.5}},
    }
    assert decisions.verdict(result) == [
        "bad: features p50_ms 0.300 > 0.1",
        "bad: decide p50_ms 0.300 > 0.2",
        "bad: decide p99_ms 0.600 > 0.5",
        "bad: loop lag cpu_p99_ms 2.500 > 2",
    ]


# -- memory --------------------------------------------------------------------------------------------------


def gateway(private: list[float], shared: float) -> dict[str, Any]:
    return {"private_mb": private, "shared_mb": shared, "total_mb": shared + sum(private)}


def test_what_an_artifact_adds_is_a_difference() -> None:
    found = footprint.added(gateway([10.0, 10.0], 20.0), gateway([14.0, 16.0], 40.0))
    assert found == {
        "shared_mb": 20.0,
        "private_mb": 5.0,
        "worst_private_mb": 6.0,
        "total_mb": 30.0,
    }
    assert footprint.verdict({"added": found}) == ["private 6.0 MB a worker > 5"]
    assert not footprint.verdict({"added": {**found, "worst_private_mb": 4.9}})


def test_the_gateway_that_is_weighed_has_the_made_up_models(tmp_path: Path) -> None:
    footprint.write_configuration(tmp_path, made_up.deployments())
    config = load_config(str(tmp_path / footprint.CONFIGURATION), {})
    assert [one.group for one in config.deployments] == list(made_up.model_names())
    assert config.deployments[0].facts.input_usd_per_token == pytest.approx(1e-7)
