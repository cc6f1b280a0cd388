from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from routeiq.training.fitting.space import fit_shrinkage, fit_space, mean_scores


def test_embedding_is_centred_and_of_unit_length_lexical_columns_are_weighted() -> None:
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) + 3.0
    z = fit_space(x, embedding_dimension=4, lexical_weight=0.25).apply(x)
    assert np.linalg.norm(z[:, :4], axis=1) == pytest.approx(np.ones(500), abs=1e-4)
    assert z[:, 4:].std(axis=0) == pytest.approx([0.25, 0.25], abs=1e-4)
    assert z[:, 4:].mean(axis=0) == pytest.approx([0.0, 0.0], abs=1e-4)


def test_a_rare_flag_does_not_put_its_rows_far_away() -> None:
    x = np.zeros((1000, 2), np.float32)
    x[0, 1] = 1.0  # a deviation of 0.03
    z = fit_space(x, embedding_dimension=1, lexical_weight=0.25).apply(x)
    assert abs(z[0, 1]) <= 0.25 / 0.05


def test_axes_are_scikit_learns_principal_components() -> None:
    x = (np.random.default_rng(1).normal(size=(300, 5)) * [5, 3, 1, 0.5, 0.1]).astype(np.float32)
    full, cut = fit_space(x, embedding_dimension=0), fit_space(x, embedding_dimension=0, axes=2)
    assert full.axes is None
    oracle = PCA(2).fit(full.apply(x))
    assert cut.axes is not None
    overlap = np.abs(oracle.components_ @ cut.axes)
    assert overlap == pytest.approx(np.eye(2), abs=1e-3)


def test_mean_scores_on_a_hand_computed_table() -> None:
    scores = np.array([[1.0, np.nan], [1.0, 0.0], [np.nan, 0.0]], np.float32)
    weights = np.array([1.0, 1.0, 2.0], np.float32)
    # model 0: 2 of 2, model 1: 0 of 3, all: 2 of 5; two rows of 0.4 are added to each
    assert mean_scores(scores, weights) == pytest.approx([2.8 / 4.0, 0.8 / 5.0])
    assert mean_scores(np.full((2, 2), np.nan, np.float32), weights[:2]).tolist() == [0.5, 0.5]


def test_shrinkage_finds_what_is_shared_and_what_is_noise() -> None:
    rng = np.random.default_rng(2)
    shared, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 4))
    own -= own.mean(axis=1, keepdims=True)
    mean = np.full(4, 0.5, np.float32)
    scores = (mean + shared + 0.5 * own).astype(np.float32)
    fitted = fit_shrinkage(shared + own, scores, mean, np.ones(5000, np.float32))
    assert fitted.shared == pytest.approx(1.0, abs=0.01)
    assert fitted.own == pytest.approx([0.5] * 4, abs=0.01)


def test_shrinkage_is_found_from_one_label_per_row() -> None:
    rng = np.random.default_rng(3)
    residual = rng.normal(size=(8000, 3))
    mean = np.full(3, 0.5, np.float32)
    scores = (mean + 0.8 * residual).astype(np.float32)
    scores[np.arange(3) != rng.integers(0, 3, (8000, 1))] = np.nan
    fitted = fit_shrinkage(residual, scores, mean, np.ones(8000, np.float32))
    assert fitted.shared == pytest.approx(0.8, abs=0.02)
    assert fitted.own == pytest.approx([0.8] * 3, abs=0.02)


def test_without_any_label_residuals_stay_as_they_are() -> None:
    nothing = np.full((5, 2), np.nan, np.float32)
    fitted = fit_shrinkage(
        np.zeros((5, 2)), nothing, np.zeros(2, np.float32), np.ones(5, np.float32)
    )
    assert (fitted.shared, fitted.own.tolist()) == (1.0, [1.0, 1.0])
