from __future__ import annotations

import numpy as np

from routeiq.training.fitting.transfer import expansion, fit_transfer, scarce, with_models
from tests.support import estimators

RATES = np.array([0.5, 0.5, 0.5])


def outcomes(rows: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((rows, 3)) < 0.5).astype(np.float32)


def test_no_labels_give_the_mean_of_the_others() -> None:
    found = fit_transfer(np.empty((0, 3)), np.empty(0), np.empty(0), RATES)
    assert np.allclose(found(np.array([[0.3, 0.6, 0.9]])), [0.6])


def test_a_twin_is_found_with_a_hundred_labels() -> None:
    x = outcomes(100)
    found = fit_transfer(x, x[:, 1], np.ones(100, np.float32), RATES)
    assert found.weights[1] > 0.9
    assert np.abs(found.weights[[0, 2]]).max() < 0.1


def test_an_offset_is_learned() -> None:
    x = outcomes(100)
    found = fit_transfer(x, x.mean(axis=1) - 0.2, np.ones(100, np.float32), RATES)
    assert np.allclose(found(RATES[None]), [0.3], atol=0.02)


def test_noise_is_pulled_to_equal_weights() -> None:
    x = outcomes(60)
    noise = np.random.default_rng(9).random(60).astype(np.float32)
    found = fit_transfer(x, noise, np.ones(60, np.float32), RATES)
    assert np.abs(found.weights).max() < 0.5
    assert abs(float(found(RATES[None])[0]) - float(noise.mean())) < 0.1


def test_scarce_needs_others_with_many_more() -> None:
    scores = np.zeros((900, 4), np.float32)
    scores[50:, 3] = np.nan
    assert scarce(scores).tolist() == [False, False, False, True]
    assert not scarce(scores[:100]).any()  # 50 against 100 is not so many more
    assert not scarce(scores[:, 2:]).any()  # nobody but one model to borrow from
    scores[:, 2] = np.nan
    assert scarce(scores).tolist() == [False, False, False, True]  # no labels: no column of its own


def test_expansion_keeps_known_models_as_they_are() -> None:
    scores = np.concatenate([outcomes(400), outcomes(400, 1)[:, :1]], axis=1)
    scores[80:, 3] = np.nan
    few = scarce(scores)
    predictions = np.full((400, 3), 0.5)
    spread, offset = expansion(scores, few, predictions, np.ones(400, np.float32), RATES)
    assert np.array_equal(spread[:, :3], np.eye(3))
    assert offset[:3].tolist() == [0.0, 0.0, 0.0]
    assert np.isfinite(spread[:, 3]).all()


def test_columns_and_their_preferences_are_taken() -> None:
    table = estimators.table(
        np.zeros((2, 3), np.float32),
        np.array([[0, 1, 0.5], [1, 0, 0.25]], np.float32),
        np.array([[0, 0, 2, 1.0], [1, 0, 1, 0.0]], np.float32),
    )
    found = with_models(table, np.array([0, 2]))
    assert found.models == ("model-0", "model-2")
    assert found.scores.tolist() == [[0.0, 0.5], [1.0, 0.25]]
    assert found.preferences.tolist() == [[0.0, 0.0, 1.0, 1.0]]
