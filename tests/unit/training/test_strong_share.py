from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routeiq.training.errors import DataError
from routeiq.training.scoring import PriorScorer, mean_costs
from routeiq.training.strong_share import calibrate
from routeiq.training.table import Matrix, Table
from tests.support.estimators import table

ROWS = 10


class Told:
    """Strong is good by the row's feature, weak is 0.5."""

    name = "told"
    models: tuple[str, ...] = ("big", "org/small")

    def __init__(self) -> None:
        self.seen: Table | None = None

    def scores(self, table: Table) -> Matrix:
        self.seen = table
        level = table.features[:, 0]
        return np.stack([level, np.full(len(level), 0.5, np.float32)], axis=1)


def rows(levels: list[float]) -> Table:
    features = np.array(levels, np.float32)[:, None]
    return table(features, np.full((len(levels), 1), np.nan, np.float32))


LEVELS = rows([0.1 * n for n in range(ROWS)])


@pytest.mark.parametrize(("share", "above"), [(0.0, 0), (0.3, 3), (0.35, 3), (0.5, 5), (1.0, 10)])
def test_the_share_of_the_rows_reaches_the_threshold(share: float, above: int) -> None:
    found = calibrate(Told(), LEVELS, strong="big", weak="small", share=share)
    assert (found.rows, found.share) == (ROWS, above / ROWS)
    rates = 0.5 + (LEVELS.features[:, 0].astype(float) - 0.5) / 2
    assert (rates >= found.threshold).sum() == above


def test_the_threshold_is_short_where_that_separates_the_same_rows() -> None:
    found = calibrate(Told(), LEVELS, strong="big", weak="small", share=0.3)
    assert found.threshold == 0.599999  # 0.5 + (0.7 - 0.5) / 2, a little less as float32


def test_rates_closer_than_the_decimals_keep_all_of_them() -> None:
    near = rows([0.7, 0.7000003, 0.7000006])
    found = calibrate(Told(), near, strong="big", weak="small", share=0.4)
    assert found.rows == 3
    assert found.share == pytest.approx(1 / 3)


def test_equal_rates_stay_together() -> None:
    same = rows([0.7] * 4)
    assert calibrate(Told(), same, strong="big", weak="small", share=0.9).share == 0.0
    assert calibrate(Told(), same, strong="big", weak="small", share=1.0).share == 1.0


def test_only_the_pair_is_scored_with_its_costs() -> None:
    scorer = Told()
    data = table(np.zeros((3, 1), np.float32), np.ones((3, 2), np.float32))
    data = replace(data, models=("other", "big"), costs=np.full((3, 2), 0.25, np.float32))
    calibrate(scorer, data, strong="big", weak="small", share=0.5)
    assert scorer.seen is not None
    assert scorer.seen.models == ("big", "small")
    assert mean_costs(scorer.seen) == [0.25, None]


def test_the_prior_takes_any_two_models() -> None:
    data = replace(LEVELS, prior=np.linspace(0.0, 1.0, ROWS, dtype=np.float32))
    found = calibrate(PriorScorer(), data, strong="gpt-4o", weak="gpt-4o-mini", share=0.5)
    assert found.share == 0.5


def test_models_that_the_artifact_does_not_know_are_told() -> None:
    with pytest.raises(DataError, match="knows no 'huge'; it knows big, org/small"):
        calibrate(Told(), LEVELS, strong="huge", weak="small", share=0.5)
    with pytest.raises(DataError, match="must differ"):
        calibrate(Told(), LEVELS, strong="big", weak="big", share=0.5)
