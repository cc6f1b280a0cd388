"""Baselines."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from routeiq.exceptions import RouteIQError
from routeiq.training.evaluation.baselines import (
    LITELLM_MODULE,
    ladder_sweep,
    litellm_complexity,
    oracle_sweep,
    random_sweep,
    steps,
)
from routeiq.training.evaluation.outcomes import outcomes

SCORES = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
COSTS = np.array([[1.0, 2.0, 4.0]] * 4)
DATA = outcomes(("cheap", "bad", "dear"), SCORES, COSTS)


def test_random_is_its_expectation() -> None:
    quality, cost = random_sweep(DATA).mean()
    assert quality.tolist() == pytest.approx([5 / 12])
    assert cost.tolist() == pytest.approx([7 / 3])


def test_random_knows_only_measured_models() -> None:
    data = outcomes(("a", "b"), np.array([[1.0, np.nan], [0.0, 1.0]]))
    assert random_sweep(data).mean()[0].tolist() == pytest.approx([0.75])


def test_oracle_takes_the_cheapest_good_answer() -> None:
    quality, cost = oracle_sweep(DATA).mean()
    assert quality[0] == 0.75
    assert cost[0] == pytest.approx((1 + 4 + 1 + 1) / 4)


def test_ladder_climbs_the_hull_of_the_singles() -> None:
    assert steps(DATA) == [0, 2]
    quality, cost = ladder_sweep(np.array([0.1, 0.9, 0.2, 0.3]), DATA).mean()
    assert (quality[0], cost[0]) == (0.75, 4.0)  # everything to the best
    assert (0.75, 1.75) in set(zip(quality.tolist(), cost.tolist(), strict=True))  # only row 2
    assert (quality[-1], cost[-1]) == (0.5, 1.0)


def test_ladder_steps_down_where_a_model_is_missing() -> None:
    scores = SCORES.copy()
    scores[1, 2] = np.nan
    quality, cost = ladder_sweep(np.zeros(4), outcomes(DATA.models, scores, COSTS)).mean()
    assert quality[0] == 0.5
    assert cost[0] == pytest.approx((4 + 1 + 4 + 4) / 4)


def test_litellm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    assert litellm_complexity(("hello",)) is None


def test_litellm_scores_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Router:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def classify(self, text: str) -> tuple[str, float, list[str]]:
            return "SIMPLE", len(text) / 10, []

    install(monkeypatch, Router)
    found = litellm_complexity(("a", "abc"))
    assert found is not None
    assert found.tolist() == [0.1, 0.3]


def test_another_litellm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, object)
    with pytest.raises(RouteIQError, match="--no-litellm"):
        litellm_complexity(("a",))


def install(monkeypatch: pytest.MonkeyPatch, router: type) -> None:
    parts = LITELLM_MODULE.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), ModuleType(parts[depth - 1]))
    monkeypatch.setattr(sys.modules[LITELLM_MODULE], "ComplexityRouter", router, raising=False)
