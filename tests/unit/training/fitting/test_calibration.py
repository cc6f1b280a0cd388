from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from routeiq.training.fitting.calibration import (
    LEAST_SLOPE,
    calibration_error_per_model,
    expected_calibration_error,
    fit_calibration,
    isotonic,
    platt,
    platt_per_model,
    pool_adjacent,
)

Floats = npt.NDArray[np.float64]


def sigmoid(z: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


def overconfident(rows: int, models: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Predictions whose logits are three times too large, and what came."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(rows, models)) + np.linspace(-1.0, 1.0, models)
    return sigmoid(3.0 * true), (rng.random((rows, models)) < sigmoid(true)).astype(np.float64)


def test_platt_is_scikit_learns_logistic_regression_without_penalty() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=500)
    y = (rng.random(500) < sigmoid(1.7 * z - 0.4)).astype(np.float64)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], y)
    slope, offset = platt(z, y)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    assert offset == pytest.approx(oracle.intercept_[0], abs=1e-4)


def test_platt_recovers_a_line_from_soft_labels() -> None:
    z = np.linspace(-3.0, 3.0, 50)
    slope, offset = platt(z, sigmoid(0.6 * z + 0.25))
    assert (slope, offset) == pytest.approx((0.6, 0.25), abs=1e-4)


def test_platt_weights_count_as_repeated_rows() -> None:
    z, y = np.array([-1.0, 0.5, 2.0, 0.0]), np.array([0.0, 1.0, 0.5, 0.5])
    twice = platt(np.repeat(z, 2), np.repeat(y, 2))
    assert platt(z, y, np.full(4, 2.0)) == pytest.approx(twice, abs=1e-6)


def test_platt_without_labels_is_what_it_is_pulled_to() -> None:
    empty = np.empty(0)
    assert platt(empty, empty, toward=(0.7, -0.2)) == (0.7, -0.2)


def test_platt_stays_finite_when_labels_are_separable() -> None:
    slope, offset = platt(np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert np.isfinite(slope)
    assert np.isfinite(offset)


def test_platt_of_a_wrong_way_round_score_keeps_the_order_and_the_mean() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=2000)
    y = (rng.random(2000) < sigmoid(-z + 0.5)).astype(np.float64)
    slope, offset = platt(z, y)
    assert slope == LEAST_SLOPE
    assert sigmoid(slope * z + offset).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_a_model_with_few_labels_gets_nearly_the_pooled_curve() -> None:
    raw, y = overconfident(4000, 3)
    z = np.log(raw / (1.0 - raw))
    few = y.copy()
    few[:, 2] = np.nan
    few[:3, 2] = 1.0 - y[:3, 2]  # three labels, all wrong
    slopes, offsets = platt_per_model(z, few)
    alone, _ = platt(z[:3, 2], few[:3, 2])
    assert slopes[:2] == pytest.approx([1 / 3, 1 / 3], abs=0.03)
    assert abs(slopes[2] - 1 / 3) < 0.35 < abs(alone - 1 / 3)
    assert abs(offsets[2]) < 0.5


def test_pool_adjacent_on_a_hand_computed_sequence() -> None:
    fitted = pool_adjacent(np.array([1.0, 3.0, 2.0, 4.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0, 2.0]))
    # 4 then 0 (twice): 4/3 pools with 2 and 3 to 9/5; 1 stays
    assert fitted == pytest.approx([1.0, 1.8, 1.8, 1.8, 1.8])


def test_isotonic_with_a_bin_per_row_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    y, w = rng.random(40), rng.random(40) + 0.1
    oracle = IsotonicRegression().fit_transform(np.arange(40.0), y, sample_weight=w)
    assert pool_adjacent(y, w) == pytest.approx(oracle)
    x, knots = isotonic(np.repeat(np.arange(4.0), 60), np.repeat([0.0, 1.0, 0.5, 1.0], 60), bins=4)
    assert x == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert knots == pytest.approx([0.0, 0.75, 0.75, 1.0])


@pytest.mark.parametrize("shape", ["platt", "isotonic"])
def test_calibration_repairs_overconfidence_on_new_rows(shape: str) -> None:
    raw, y = overconfident(4000, 4)
    fitted = fit_calibration(raw, y, shape="platt" if shape == "platt" else "isotonic")
    new_raw, new_y = overconfident(20_000, 4, seed=9)
    before = expected_calibration_error(new_raw, new_y)
    after = fitted.apply(new_raw.astype(np.float32))
    assert before > 0.1
    assert expected_calibration_error(after, new_y) < 0.02
    assert after.mean(axis=0) == pytest.approx(y.mean(axis=0), abs=0.03)  # models keep their level


@pytest.mark.parametrize("shape", ["platt", "isotonic"])
def test_calibration_keeps_each_models_order_of_prompts(shape: str) -> None:
    raw, y = overconfident(600, 3)
    fitted = fit_calibration(raw, y, shape="platt" if shape == "platt" else "isotonic")
    grid = np.tile(np.linspace(0.02, 0.98, 50, dtype=np.float32)[:, None], (1, 3))
    assert (np.diff(fitted.apply(grid), axis=0) > 0.0).all()


def test_isotonic_takes_a_shape_that_a_sigmoid_cannot() -> None:
    rng = np.random.default_rng(4)
    raw = rng.random((30_000, 1))
    truth = np.where(raw < 0.5, 0.2, 0.6) + 0.1 * raw
    y = (rng.random(raw.shape) < truth).astype(np.float64)
    line = fit_calibration(raw, y).apply(raw.astype(np.float32))
    bent = fit_calibration(raw, y, shape="isotonic").apply(raw.astype(np.float32))
    assert np.abs(bent - truth).mean() < 0.5 * np.abs(line - truth).mean()


def test_logits_and_probabilities_give_the_same_calibration() -> None:
    raw, y = overconfident(2000, 2)
    z = np.log(raw / (1.0 - raw))
    inside = (raw > 0.02) & (raw < 0.98)
    one = fit_calibration(raw, y).apply(raw.astype(np.float32))
    other = fit_calibration(z, y, space="logit").apply(z.astype(np.float32))
    assert np.abs(one - other)[inside].max() < 0.02


def test_missing_scores_and_missing_predictions_are_left_out() -> None:
    raw, y = overconfident(2000, 2)
    holes = np.random.default_rng(5).random(y.shape) < 0.3
    gone = fit_calibration(np.where(holes, np.nan, raw), y)
    kept = fit_calibration(raw, np.where(holes, np.nan, y))
    assert np.array_equal(gone.table, kept.table)


def test_constant_scores_and_a_model_without_labels() -> None:
    raw = np.full((200, 3), 0.5)
    y = np.tile([1.0, 0.0, np.nan], (200, 1))
    out = fit_calibration(raw, y, shape="isotonic").apply(raw.astype(np.float32)[:1])[0]
    assert out[0] > 0.9
    assert out[1] < 0.1
    assert out[2] == pytest.approx(0.5, abs=0.02)


def test_calibration_error_on_hand_computed_bins() -> None:
    p = np.array([0.1, 0.1, 0.9, 0.9])
    y = np.array([0.0, 1.0, 1.0, 1.0])
    # bins {0.1, 0.1}: |0.1 - 0.5| and {0.9, 0.9}: |0.9 - 1|, half of the rows each
    assert expected_calibration_error(p, y, bins=2, equal="mass") == pytest.approx(0.25)
    assert expected_calibration_error(p, y, bins=2, equal="width") == pytest.approx(0.25)
    three = np.array([0.1, 0.2, 0.9])
    assert expected_calibration_error(three, np.array([0.0, 0.0, 1.0]), bins=2, equal="width") == (
        pytest.approx((0.3 + 0.1) / 3)
    )


def test_calibration_error_ignores_missing_and_is_nan_without_any() -> None:
    p, y = np.array([[0.5, 0.3], [0.5, 0.3]]), np.array([[1.0, np.nan], [0.0, np.nan]])
    assert expected_calibration_error(p, y, bins=1) == pytest.approx(0.0)
    each = calibration_error_per_model(p, y, bins=1)
    assert each[0] == pytest.approx(0.0)
    assert np.isnan(each[1])
