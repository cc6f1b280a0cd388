from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPRegressor

from routeiq.strategies.mlp import MlpEstimator
from routeiq.strategies.numeric import Calibration

MODELS = ("a", "b")


def estimator() -> MlpEstimator:
    return MlpEstimator(
        MODELS,
        hidden=np.array([[1.0, -1.0], [2.0, 1.0]], np.float32),
        hidden_bias=np.array([0.0, 0.5], np.float32),
        output=np.array([[0.1, 0.2], [0.4, -0.2]], np.float32),
        output_bias=np.array([0.05, 0.5], np.float32),
        calibration=Calibration.identity(2),
    )


def test_forward_pass_by_hand() -> None:
    # hidden: (1 + 2 * 0.5, max(0, -1 + 0.5 + 0.5)) = (2, 0); outputs 0.05 + 0.2 and 0.5 + 0.4
    x = np.array([[1.0, 0.5]], np.float32)
    assert np.allclose(estimator().predict(x), [[0.25, 0.9]], atol=1e-6)


def test_rectifier_silences_negative_units() -> None:
    # the first unit gets -1 and is silent, the second 1.5
    x = np.array([[-1.0, 0.0]], np.float32)
    assert np.allclose(estimator().predict(x), [[0.65, 0.2]], atol=1e-6)


def test_agrees_with_scikit_learn_on_the_same_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype(np.float32)
    y = np.clip(rng.normal(0.5, 0.1, (200, 3)) + 0.2 * x[:, :3], 0.0, 1.0)
    oracle = MLPRegressor(
        hidden_layer_sizes=(7,), activation="relu", solver="lbfgs", max_iter=4000, random_state=0
    )
    oracle.fit(x, y)
    ours = MlpEstimator(
        ("a", "b", "c"),
        hidden=oracle.coefs_[0].astype(np.float32),
        hidden_bias=oracle.intercepts_[0].astype(np.float32),
        output=oracle.coefs_[1].astype(np.float32),
        output_bias=oracle.intercepts_[1].astype(np.float32),
        calibration=Calibration.identity(3),
    )
    assert np.allclose(ours.logits(x), oracle.predict(x), atol=1e-4)


def test_explain_gives_logits_and_active_units() -> None:
    found = estimator().explain(np.array([[1.0, 0.5]], np.float32))
    assert found == {"logits": {"a": 0.25, "b": 0.9}, "active_units": 1}
