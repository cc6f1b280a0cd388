from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routeiq.training.errors import DataError
from routeiq.training.fitting.train import KINDS, cost_model, learnable, sampled, train
from routeiq.training.table import Table
from tests.support import estimators


def priced(rows: int = 300) -> Table:
    table = estimators.synthetic(rows)
    costs = np.tile(np.array([1.0, 2.0, 4.0], np.float32) * 1e-4, (rows, 1))
    return replace(table, costs=costs, output_tokens=np.full_like(costs, 50.0))


def test_trains_measures_and_says_what_a_gateway_needs() -> None:
    told: list[str] = []
    fitted = train("mf", priced(), settings={"folds": 2, "search": 2}, progress=told.append)
    assert fitted.estimator.models == ("model-0", "model-1", "model-2")
    assert fitted.metrics["held_out_rows"] == 60
    assert fitted.metrics["accuracy"] > fitted.metrics["best_single"]
    assert 0.0 < fitted.metrics["aiq"] <= 1.0
    assert fitted.settings["output_tokens"] == dict.fromkeys(fitted.estimator.models, 50.0)
    assert fitted.settings["labels"]["model-1"] == 300
    assert fitted.settings["training"]["trials"] == 2
    assert any("fitting on all 300 rows" in line for line in told)


def test_given_settings_are_not_searched() -> None:
    fixed = {"folds": 2, "rank": 2, "decay": 1.0, "epochs": 5}
    fitted = train("mf", priced(80), settings={**fixed, "measure": False})
    assert fitted.settings["training"] == {**fixed, "trials": 0}
    assert fitted.metrics == {}


def test_few_rows_are_all_learned_from() -> None:
    fitted = train("mf", priced(30), settings={"folds": 2})
    assert fitted.metrics == {}


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(DataError, match=r"'forest'.*hybrid"):
        train("forest", priced())
    assert "hybrid" in KINDS


def test_models_and_rows_without_scores_are_left_out() -> None:
    table = estimators.synthetic(20)
    scores = table.scores.copy()
    scores[:, 1] = np.nan
    scores[:5] = np.nan
    found = learnable(replace(table, scores=scores))
    assert found.models == ("model-0", "model-2")
    assert len(found) == 15


def test_only_preferences_are_for_elo() -> None:
    table = estimators.synthetic(20)
    nothing = replace(
        table,
        scores=np.full_like(table.scores, np.nan),
        preferences=np.array([[0, 0, 1, 1.0]], np.float32),
    )
    assert len(learnable(nothing, preferences=True)) == 20
    with pytest.raises(DataError, match="elo"):
        learnable(nothing)


def test_cost_model_is_a_line_in_the_length() -> None:
    table = priced(3)
    costs = np.array([[1.0], [2.0], [3.0]], np.float32) * np.array([1.0, 2.0, np.nan], np.float32)
    found = cost_model(replace(table, costs=costs, texts=("x" * 10, "x" * 20, "x" * 30)))
    assert set(found) == {"model-0", "model-1"}
    assert found["model-0"]["usd"] == pytest.approx(2.0)
    assert found["model-0"]["usd_per_character"] == pytest.approx(0.1)
    assert found["model-1"]["usd_base"] == pytest.approx(0.0, abs=1e-6)
    assert cost_model(replace(table, costs=costs))["model-0"] == {"usd": pytest.approx(2.0)}


def test_a_huge_table_is_sampled_by_text() -> None:
    table = replace(
        estimators.synthetic(400),
        groups=np.repeat(np.arange(200, dtype=np.uint64) * np.uint64(7919), 2),
    )
    kept = sampled(table, most=100)
    assert 60 <= len(kept) <= 140
    assert sampled(table, most=400) is table
    groups, counts = np.unique(kept.groups, return_counts=True)
    assert set(counts.tolist()) == {2}
    assert len(groups) == len(kept) // 2
