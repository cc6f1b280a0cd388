from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.knn import (
    KERNEL,
    PSEUDO_NEIGHBOURS,
    KnnEstimator,
    KnnStrategy,
    Neighbours,
    kernel_mean,
)
from routeiq.strategies.numeric import Calibration, Shrinkage, Space
from routeiq.training.fitting.knn import fit_knn
from routeiq.training.table import Table
from tests.support import estimators

ROWS = np.array([[100, 0], [90, 0], [0, 100], [0, 120]], np.int8)
STEP = np.array([0.01, 0.01], np.float32)


def neighbours(probes: int) -> Neighbours:
    space = Space(np.zeros(2, np.float32), np.ones(2, np.float32), 0)
    centres = np.array([[0.95, 0.0], [0.0, 1.1]], np.float32)
    squared = ((ROWS * STEP) ** 2).sum(axis=1).astype(np.float32)
    starts = np.array([0, 2, 4], np.int32)
    return Neighbours(space, ROWS, STEP, starts, centres, squared, probes)


def estimator(probes: int = 2, k: int = 1) -> KnnEstimator:
    return KnnEstimator(
        ("a", "b"),
        neighbours=neighbours(probes),
        k=k,
        residuals=np.array([[0.5, -0.25], [0, 0], [0, 0], [-0.5, np.nan]], np.float16),
        weights=np.empty(0, np.float32),
        keys=np.array([1, 2, 3, 4], np.uint64),
        shrinkage=Shrinkage(np.array([0.5, 0.5], np.float32), 1.0, np.ones(2, np.float32)),
        calibration=Calibration.identity(2),
        complete=False,
    )


@pytest.mark.parametrize("probes", [1, 2])
def test_search_gives_exact_distances_of_the_kept_rows(probes: int) -> None:
    where, away = neighbours(probes).search(np.array([1.0, 0.1], np.float32), 2)
    found = dict(zip(where.tolist(), away.tolist(), strict=True))
    assert found == pytest.approx({0: 0.01, 1: 0.02}, abs=1e-5)


def test_one_probe_looks_into_the_nearest_cell_only() -> None:
    point = np.array([0.0, 1.0], np.float32)
    assert sorted(neighbours(1).search(point, 4)[0].tolist()) == [2, 3]
    assert sorted(neighbours(2).search(point, 4)[0].tolist()) == [0, 1, 2, 3]


def test_kernel_mean_on_hand_computed_neighbours() -> None:
    residuals = np.array([[[0.4, np.nan], [-0.2, 0.6]]], np.float32)
    away = np.array([[1.0, 3.0]], np.float32)  # 0.5 and 1.5 times their mean
    w = np.exp([-0.5 * KERNEL, -1.5 * KERNEL])
    w /= w.sum()
    pull = PSEUDO_NEIGHBOURS / 2
    expected = [(w[0] * 0.4 - w[1] * 0.2) / (1 + pull), w[1] * 0.6 / (w[1] + pull)]
    assert kernel_mean(residuals, away, None, complete=False)[0] == pytest.approx(
        expected, abs=1e-6
    )


def test_with_and_without_looking_for_gaps_is_the_same_where_there_are_none() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(3, 5, 2)).astype(np.float32)
    away, weights = rng.random((3, 5)).astype(np.float32), rng.random((3, 5)).astype(np.float32)
    one = kernel_mean(residuals, away, weights, complete=True)
    assert one == pytest.approx(kernel_mean(residuals, away, weights, complete=False), abs=1e-6)


def test_prediction_takes_the_nearest_row_pulled_to_the_mean() -> None:
    out = estimator().predict(np.array([[1.0, 0.0]], np.float32))[0]
    share = 1.0 / (1.0 + PSEUDO_NEIGHBOURS)
    assert out == pytest.approx([0.5 + 0.5 * share, 0.5 - 0.25 * share], abs=1e-4)


def test_explanation_has_hashes_similarities_and_known_scores() -> None:
    shown = estimator(k=2).explain(np.array([[0.0, 1.2]], np.float32))["neighbours"]
    assert [one["row"] for one in shown] == [f"{4:016x}", f"{3:016x}"]
    assert shown[0]["similarity"] == pytest.approx(1.0, abs=1e-4)
    assert shown[0]["scores"] == {"a": 0.0}  # b was not measured there
    assert shown[1]["similarity"] == pytest.approx(1.0 / 1.04, abs=1e-4)


def test_a_damaged_artifact_is_refused() -> None:
    def fit(known: Table) -> KnnEstimator:
        return fit_knn(known, embedding_dimension=estimators.DIMENSION)

    messages = estimators.check_refuses_damage(fit, KnnEstimator)
    assert any("rows" in message for message in messages)


def test_cells_that_do_not_cover_the_rows_are_refused() -> None:
    arrays, settings = estimator().state()
    for starts in ([0, 2, 3], [0, 5, 4], [1, 2, 4]):
        damaged = arrays | {"starts": np.array(starts, np.int32)}
        with pytest.raises(ValueError, match="'starts'"):
            KnnEstimator.restore(("a", "b"), damaged, settings)
    with pytest.raises(ValueError, match="'weights' has 3 rows of 4"):
        KnnEstimator.restore(("a", "b"), arrays | {"weights": np.ones(3, np.float32)}, settings)


def test_strategy_takes_this_kind_of_artifact() -> None:
    assert KnnStrategy.name == "knn"
    assert KnnStrategy.estimators == {"knn": KnnEstimator}
