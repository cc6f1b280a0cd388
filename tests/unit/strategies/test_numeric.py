from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.numeric import (
    Calibration,
    Shrinkage,
    Space,
    array,
    logit,
    number,
    sigmoid,
    softmax,
)


def test_sigmoid_is_written_in_place_and_never_overflows() -> None:
    z = np.array([0.0, np.log(3.0), -1e30, 1e30], dtype=np.float32)
    out = sigmoid(z)
    assert out is z
    assert out == pytest.approx([0.5, 0.75, 0.0, 1.0], abs=1e-6)
    assert out.dtype == np.float32


def test_logit_undoes_sigmoid_and_is_finite_at_the_ends() -> None:
    z = np.array([-2.0, 0.0, 3.0], dtype=np.float32)
    assert logit(sigmoid(z.copy())) == pytest.approx(z, abs=1e-4)
    ends = logit(np.array([0.0, 1.0], dtype=np.float32))
    assert ends == pytest.approx([-6.9068, 6.9068], abs=1e-3)


def test_softmax_on_a_hand_computed_row() -> None:
    out = softmax(np.log(np.array([[1.0, 2.0, 5.0]], dtype=np.float32)))
    assert out == pytest.approx(np.array([[0.125, 0.25, 0.625]]))
    assert softmax(np.array([[1000.0, 1000.0]], dtype=np.float32)).tolist() == [[0.5, 0.5]]


def test_array_is_handed_on_without_a_copy() -> None:
    kept = np.zeros((2, 3), np.float32)
    assert array({"a": kept}, "a", (2, None)) is kept


def test_array_says_what_is_wrong() -> None:
    arrays = {"a": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match="'b' is missing"):
        array(arrays, "b", (2,))
    with pytest.raises(ValueError, match=r"float32\[2, 3\], expected float32\[2, 4\]"):
        array(arrays, "a", (2, 4))
    with pytest.raises(ValueError, match="expected float16"):
        array(arrays, "a", (2, 3), np.float16)
    with pytest.raises(ValueError, match=r"\['any'\]"):
        array(arrays, "a", (None,))


def test_identity_calibration_changes_nothing() -> None:
    p = np.array([[0.0, 0.3, 1.0]], dtype=np.float32)
    assert Calibration.identity(3).apply(p) == pytest.approx(p)


def curves() -> Calibration:
    low = np.array([0.0, -2.0], np.float32)
    scale = np.array([2.0, 0.5], np.float32)
    table = np.array([[0.1, 0.2, 0.6], [0.0, 0.5, 1.0]], np.float32)
    return Calibration(low, scale, table)


def test_calibration_interpolates_each_models_own_curve() -> None:
    raw = np.array([[0.25, -1.0], [0.5, 0.0], [0.75, 1.0]], np.float32)
    expected = np.array([[0.15, 0.25], [0.2, 0.5], [0.4, 0.75]])
    assert curves().apply(raw) == pytest.approx(expected, abs=1e-6)


def test_calibration_is_constant_beyond_its_ends_and_leaves_its_input_alone() -> None:
    raw = np.array([[-9.0, -9.0], [9.0, 9.0]], np.float32)
    before = raw.copy()
    assert curves().apply(raw) == pytest.approx(np.array([[0.1, 0.0], [0.6, 1.0]]))
    assert np.array_equal(raw, before)


def test_calibration_round_trip_is_exact_and_checked() -> None:
    kept = curves().arrays("c_")
    raw = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert np.array_equal(Calibration.restore(2, kept, "c_").apply(raw), curves().apply(raw))
    with pytest.raises(ValueError, match="c_low"):
        Calibration.restore(3, kept, "c_")
    with pytest.raises(ValueError, match="two knots"):
        Calibration.restore(2, kept | {"c_table": np.zeros((2, 1), np.float32)}, "c_")


def test_space_centres_weighs_and_normalises_the_embedding_only() -> None:
    space = Space(np.array([1.0, 1.0, 2.0], np.float32), np.array([1.0, 1.0, 0.5], np.float32), 2)
    x = np.array([[4.0, 5.0, 6.0]], np.float32)
    assert space.apply(x) == pytest.approx(np.array([[0.6, 0.8, 2.0]]), abs=1e-5)
    assert np.array_equal(x, [[4.0, 5.0, 6.0]])
    assert np.isfinite(space.apply(np.array([[1.0, 1.0, 2.0]], np.float32))).all()


def test_space_projects_and_comes_back() -> None:
    axes = np.array([[0.0], [1.0], [1.0]], np.float32)
    space = Space(np.zeros(3, np.float32), np.ones(3, np.float32), 2, axes)
    x = np.array([[3.0, 4.0, 1.0]], np.float32)
    assert space.apply(x) == pytest.approx(np.array([[1.8]]), abs=1e-5)
    again = Space.restore(space.arrays(), {"embedding_dimension": 2})
    assert np.array_equal(again.apply(x), space.apply(x))


def test_shrinkage_on_a_hand_computed_row() -> None:
    shrinkage = Shrinkage(np.array([0.5, 0.3], np.float32), 0.5, np.array([1.0, 0.2], np.float32))
    out = shrinkage.apply(np.array([[0.4, 0.0]], np.float32))
    # shared part 0.2, own parts 0.2 and -0.2
    assert out == pytest.approx(np.array([[0.5 + 0.1 + 0.2, 0.3 + 0.1 - 0.04]]), abs=1e-6)
    again = Shrinkage.restore(2, shrinkage.arrays())
    residual = np.array([[0.1, -0.7]], np.float32)
    assert np.array_equal(again.apply(residual), shrinkage.apply(residual))


@pytest.mark.parametrize("value", [None, "3", True])
def test_a_setting_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="'k' is"):
        number({"k": value}, "k", int)
