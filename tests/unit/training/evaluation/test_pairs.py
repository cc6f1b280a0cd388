"""APGR and CPT by RouteLLM's protocol."""

from __future__ import annotations

import numpy as np
import pytest

from routeiq.training.evaluation.outcomes import outcomes
from routeiq.training.evaluation.pairs import need, pair_metrics, pair_sweep

ROWS = 20_000
RNG = np.random.default_rng(7)
STRONG = (RNG.random(ROWS) < 0.8).astype(float)
WEAK = (RNG.random(ROWS) < 0.6).astype(float)
DATA = outcomes(("strong", "weak"), np.stack([STRONG, WEAK], axis=1))


def figures(wanted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    return pair_metrics(*pair_sweep(wanted, DATA, 0, 1).mean())


def test_random_scores_recover_half() -> None:
    found = figures(np.random.default_rng(1).random(ROWS))
    assert found["apgr"] == pytest.approx(0.5, abs=0.02)
    assert found["cpt_50"] == pytest.approx(0.5, abs=0.03)
    assert found["cpt_20"] == pytest.approx(0.2, abs=0.03)


def test_hand_computed_case() -> None:
    # ten rows; strong is right everywhere, weak nowhere, the order does not matter: PGR = share of strong calls
    data = outcomes(("s", "w"), np.array([[1.0, 0.0]] * 10))
    found = pair_metrics(*pair_sweep(np.arange(10.0), data, 0, 1).mean())
    # the lowest threshold calls strong always, the highest never; between them 9, 8, ... 1 of ten
    assert found["apgr"] == pytest.approx(0.5)
    assert found["cpt_80"] == pytest.approx(0.8)


def test_oracle_exceeds_one_where_strong_does_harm() -> None:
    # 32 % of the rows gain, 12 % lose: best first recovers more than the gap of 20 points
    found = figures(STRONG - WEAK)
    assert found["apgr"] > 1.1
    assert found["cpt_80"] < 0.25
    assert figures(WEAK - STRONG)["apgr"] < 0.0


def test_no_gap_no_figure() -> None:
    data = outcomes(("s", "w"), np.array([[0.0, 1.0], [1.0, 1.0]]))
    assert np.isnan(pair_metrics(*pair_sweep(np.array([0.1, 0.2]), data, 0, 1).mean())["apgr"])


def test_need_is_the_predicted_difference_and_missing_rows_are_left_out() -> None:
    q = np.array([[0.9, 0.4], [0.5, 0.5], [0.1, 0.2]])
    assert need(q, 0, 1) == pytest.approx([0.5, 0.0, -0.1])
    data = outcomes(("s", "w"), np.array([[1.0, 0.0], [np.nan, 1.0], [1.0, 1.0]]))
    assert pair_sweep(need(q, 0, 1), data, 0, 1).count.sum() == 2.0
