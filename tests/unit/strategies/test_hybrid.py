from __future__ import annotations

from math import exp

import numpy as np
import numpy.typing as npt
import pytest

from routeiq.strategies.hybrid import HybridEstimator
from routeiq.strategies.numeric import Calibration, Space

MODELS = ("a", "b")
GAMMA = 0.5


def arrays(*, network: bool, tasks: int) -> dict[str, npt.NDArray[np.float32]]:
    """Two landmarks, (1, 0) and (0, 1), in a space of two embedding columns."""
    marks = np.eye(2)
    first = 2 * GAMMA * marks.T
    bias = -GAMMA * (marks**2).sum(axis=1)
    hidden = np.array([[1.0], [0.0]]) if network else np.zeros((2, 0))
    made = {
        "first": np.concatenate([first, hidden], axis=1),
        "first_bias": np.append(bias, np.zeros(hidden.shape[1])),
        "kernel": np.concatenate([[[0.1, 0.2], [0.0, 0.0]], np.zeros((2, tasks))], axis=1),
        "kernel_bias": np.append([0.3, 0.1], np.zeros(tasks)),
        "neighbour_scores": np.zeros((2, 2)),
        "task_scores": np.array([[0.2, 0.0], [0.0, 0.1]])[:tasks],
        "network": np.array([[0.0, 0.0]]) if network else np.zeros((0, 2)),
        "network_bias": np.zeros(2),
        "network_mix": np.array([[0.2, 0.0], [0.0, 0.4]]),
    }
    return {name: np.asarray(value, np.float32) for name, value in made.items()}


def estimator(
    found: dict[str, npt.NDArray[np.float32]], tasks: tuple[str, ...] = ()
) -> HybridEstimator:
    return HybridEstimator(
        MODELS,
        space=Space(np.zeros(2, np.float32), np.ones(2, np.float32), 2),
        arrays=found,
        gamma=GAMMA,
        sharpness=2.0,
        near=0.5,
        tasks=tasks,
        calibration=Calibration.identity(2),
    )


AT_FIRST = np.array([[1.0, 0.0]], np.float32)
NEAR, FAR = 1.0, exp(-GAMMA * 2.0)
"""Similarities of the first landmark to itself and to the other, at squared distance 2."""


def test_kernel_part_by_hand() -> None:
    found = estimator(arrays(network=False, tasks=0)).predict(AT_FIRST)
    assert np.allclose(found, [[0.3 + 0.1 * NEAR, 0.1 + 0.2 * NEAR]], atol=1e-5)


def test_neighbours_are_weighted_by_the_sharper_kernel() -> None:
    parts = arrays(network=False, tasks=0)
    parts["neighbour_scores"] = np.array([[0.2, 0.0], [0.0, 0.2]], np.float32)
    share = NEAR**2 / (NEAR**2 + FAR**2)
    found = estimator(parts).predict(AT_FIRST)
    assert np.allclose(found, [[0.4 + 0.2 * share, 0.3 + 0.2 * (1 - share)]], atol=1e-5)


def test_tasks_are_mixed_by_their_chances() -> None:
    parts = arrays(network=False, tasks=2)
    parts["kernel"][:, 2:] = np.array([[3.0, 0.0], [0.0, 3.0]])
    chance = 1 / (1 + exp(3.0 * FAR - 3.0 * NEAR))
    whole = estimator(parts, ("maths", "code"))
    assert np.allclose(
        whole.predict(AT_FIRST), [[0.4 + 0.2 * chance, 0.3 + 0.1 * (1 - chance)]], atol=1e-5
    )
    assert whole.explain(AT_FIRST)["tasks"]["maths"] == pytest.approx(chance, abs=1e-4)


def test_network_part_by_hand() -> None:
    parts = arrays(network=True, tasks=0)
    parts["network"] = np.array([[0.0, 2.0]], np.float32)
    second = 0.4 / (1 + exp(-2.0))
    found = estimator(parts).predict(AT_FIRST)
    assert np.allclose(found, [[0.4 + 0.2 * 0.5, 0.3 + second]], atol=1e-5)


def test_similarity_is_one_at_a_landmark_and_falls_with_distance() -> None:
    whole = estimator(arrays(network=False, tasks=0))
    x = np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)
    assert np.allclose(whole.similarity(x), [1.0, exp(-GAMMA * 2.0)], atol=1e-4)


def test_trust_is_full_near_the_training_data_and_fades_beyond() -> None:
    whole = estimator(arrays(network=False, tasks=0))
    x = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    quality, trust = whole.predict_with_trust(x)
    assert np.array_equal(quality, whole.predict(x))
    assert np.allclose(trust, [1.0, exp(-GAMMA * 2.0) / 0.5], atol=1e-4)


def test_many_rows_are_predicted_like_one_at_a_time() -> None:
    whole = estimator(arrays(network=True, tasks=2), ("maths", "code"))
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    assert np.allclose(whole.predict(x), np.concatenate([whole.predict(r[None]) for r in x]))


def test_settings_are_checked() -> None:
    whole = estimator(arrays(network=False, tasks=0))
    kept, settings = whole.state()
    for name in ("gamma", "sharpness", "near", "tasks", "embedding_dimension"):
        damaged = {key: value for key, value in settings.items() if key != name}
        with pytest.raises(ValueError, match=name):
            HybridEstimator.restore(MODELS, kept, damaged)
