from __future__ import annotations

from math import exp, log

import numpy as np

from routeiq.strategies.irt import IrtEstimator
from routeiq.strategies.numeric import Calibration


def estimator() -> IrtEstimator:
    return IrtEstimator(
        ("weak", "strong"),
        prompt=np.array([[1.0, 0.25]], np.float32),
        prompt_bias=np.array([0.0, 0.1], np.float32),
        ability=np.array([[0.5], [1.0]], np.float32),
        calibration=Calibration.identity(2),
    )


def test_forward_pass_by_hand() -> None:
    # at x = 0: discrimination softplus(0) = ln 2, difficulty 0.1
    found = estimator().predict(np.zeros((1, 1), np.float32))
    assert np.allclose(found, [[0.5 * log(2) - 0.1, log(2) - 0.1]], atol=1e-6)


def test_discrimination_is_positive_and_difficulty_linear() -> None:
    discrimination, difficulty = estimator().items(np.array([[-3.0], [2.0]], np.float32))
    assert np.allclose(discrimination[:, 0], [log(1 + exp(-3)), log(1 + exp(2))], atol=1e-5)
    assert np.allclose(difficulty[:, 0], [-0.65, 0.6], atol=1e-6)


def test_the_abler_model_is_ahead_on_every_prompt() -> None:
    z = estimator().logits(np.linspace(-8, 8, 33, dtype=np.float32)[:, None])
    assert (z[:, 1] > z[:, 0]).all()


def test_explain_names_difficulty_and_abilities() -> None:
    found = estimator().explain(np.zeros((1, 1), np.float32))
    assert found["difficulty"] == 0.1
    assert found["ability"] == {"weak": [0.5], "strong": [1.0]}
