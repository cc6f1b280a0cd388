"""Curves against cases that were worked out by hand: three rows, two models."""

from __future__ import annotations

import numpy as np
import pytest

from routeiq.training.errors import DataError
from routeiq.training.evaluation.curves import (
    UNITS,
    area,
    candidates,
    choose,
    cost_at,
    hull,
    lambdas,
    quality_at,
    router_sweep,
    singles_sweep,
    units,
)
from routeiq.training.evaluation.outcomes import fill_costs, outcomes, predict_costs

MODELS = ("cheap", "dear")
SCORES = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
COSTS = np.array([[1.0, 3.0]] * 3)
Q = np.array([[0.9, 0.8], [0.2, 0.8], [0.5, 0.6]])
TOY = outcomes(MODELS, SCORES, COSTS, predicted=COSTS)


def test_router_visits_every_operating_point_of_the_toy_case() -> None:
    # dear - cheap: rows -0.1, +0.6, +0.1 quality for 2 USD more: breakpoints 0.05 and 0.3 per USD
    quality, cost = router_sweep(Q, TOY).mean()
    points = {(round(float(c), 6), round(float(y), 6)) for c, y in zip(cost, quality, strict=True)}
    assert points == {(7 / 3, 2 / 3), (5 / 3, 2 / 3), (1.0, 1 / 3)} or points == {
        (round(7 / 3, 6), round(2 / 3, 6)),
        (round(5 / 3, 6), round(2 / 3, 6)),
        (1.0, round(1 / 3, 6)),
    }
    assert (quality[0], cost[0]) == (pytest.approx(2 / 3), pytest.approx(7 / 3))


def test_breakpoints_are_those_worked_out() -> None:
    found = lambdas(Q, COSTS, points=4)
    assert found[0] == 0.0
    assert found[1:3] == pytest.approx([0.05, 0.3])
    assert found[-1] > 0.3


def test_area_under_the_hull_of_the_toy_case() -> None:
    quality, cost = router_sweep(Q, TOY).mean()
    x, y = hull(cost, quality)
    # (0, 0), (1, 1/3), (5/3, 2/3) and level: the line from the origin to (5/3, 2/3) passes above (1, 1/3)
    assert x == pytest.approx([0.0, 5 / 3])
    assert y == pytest.approx([0.0, 2 / 3])
    rising, level = (0.4 + 2 / 3) / 2 * (2 / 3), 2 / 3 * (4 / 3)
    assert area(x, y, 1.0, 3.0) == pytest.approx((rising + level) / 2.0)
    assert quality_at(x, y, 1.0) == pytest.approx(0.4)
    assert cost_at(x, y, 2 / 3) == pytest.approx(5 / 3)
    assert np.isnan(cost_at(x, y, 0.7))


def test_hull_never_falls_and_is_concave() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        cost, quality = rng.random(30), rng.random(30)
        x, y = hull(cost, quality)
        slopes = np.diff(y) / np.diff(x)
        assert (np.diff(x) > 0).all()
        assert (np.diff(y) > 0).all()
        assert (np.diff(slopes) <= 1e-12).all()
        assert (np.interp(cost, x, y) >= quality - 1e-12).all()


def test_cost_never_rises_with_its_weight() -> None:
    rng = np.random.default_rng(0)
    q, c = rng.random((200, 4)), rng.random((200, 4))
    spent = [c[np.arange(200), choose(q, c, float(w))].sum() for w in lambdas(q, c)]
    assert (np.diff(spent) <= 1e-12).all()
    assert spent[-1] == pytest.approx(c.min(axis=1).sum(), rel=1e-3)


def test_equals_go_to_the_cheaper() -> None:
    q = np.array([[0.5, 0.5]])
    assert choose(q, np.array([[2.0, 1.0]]), 0.0).tolist() == [1]
    assert choose(q, np.array([[1.0, 1.0]]), 0.0).tolist() == [0]


def test_a_model_that_was_not_measured_is_no_candidate() -> None:
    data = outcomes(MODELS, np.array([[0.4, np.nan], [0.2, 0.7]]), COSTS[:2])
    found = candidates(np.array([[0.1, 0.9], [np.nan, 0.9]]), data)
    assert np.isnan(found[0, 1])
    assert found[1, 0] == 0.9  # measured without a prediction: the row's lowest
    assert choose(found, data.predicted, 0.0).tolist() == [0, 0]


def test_singles_are_judged_where_they_were_measured() -> None:
    data = outcomes(MODELS, np.array([[1.0, np.nan], [0.0, 1.0]]), COSTS[:2])
    quality, cost = singles_sweep(data).mean()
    assert quality == pytest.approx([0.5, 1.0])
    assert cost == pytest.approx([1.0, 3.0])


def test_many_rows_are_resampled_in_groups() -> None:
    unit, total = units(3 * UNITS)
    assert total == UNITS
    assert unit.shape == (3 * UNITS,)
    assert unit.max() < UNITS
    assert units(5)[0].tolist() == [0, 1, 2, 3, 4]


def test_rows_without_a_score_are_left_out() -> None:
    data = outcomes(MODELS, np.array([[np.nan, np.nan], [1.0, 0.0]]), tasks=("a", "b"))
    assert len(data) == 1
    assert data.tasks == ("b",)
    assert not data.priced
    with pytest.raises(DataError, match="nothing to evaluate"):
        outcomes(MODELS, np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="2 models"):
        outcomes(MODELS, np.zeros((2, 3)))


def test_an_unknown_cost_is_never_free() -> None:
    nan = np.nan
    filled = fill_costs(np.array([[1.0, nan, nan], [3.0, 9.0, nan]]))
    assert filled.tolist() == [[1.0, 9.0, 9.0], [3.0, 9.0, 9.0]]


def test_predicted_costs_do_not_see_their_own_row() -> None:
    lengths = np.arange(10.0)
    costs = 2.0 + 0.5 * lengths[:, None]
    assert predict_costs(costs, lengths) == pytest.approx(np.clip(costs, 2.0, None), abs=0.51)
    spoiled = costs.copy()
    spoiled[4] = 1000.0
    assert predict_costs(spoiled, lengths)[9] == pytest.approx(predict_costs(costs, lengths)[9])
    assert predict_costs(spoiled, lengths)[4] == pytest.approx(costs[4])
