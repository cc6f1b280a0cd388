from __future__ import annotations

import numpy as np

from routeiq.strategies.mf import MfEstimator
from routeiq.strategies.numeric import Calibration


def estimator() -> MfEstimator:
    return MfEstimator(
        ("a", "b"),
        prompt=np.array([[0.5, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32),
        prompt_bias=np.array([0.0, -0.25], np.float32),
        model=np.array([[0.2, 0.4], [-0.4, 0.0]], np.float32),
        model_bias=np.array([0.3, 0.6], np.float32),
        calibration=Calibration.identity(2),
    )


def test_forward_pass_by_hand() -> None:
    # prompt vector (0.5, 0.75); model a: 0.3 + 0.1 + 0.3, model b: 0.6 - 0.2
    x = np.array([[1.0, 1.0, 9.0]], np.float32)
    assert np.allclose(estimator().predict(x), [[0.7, 0.4]], atol=1e-6)


def test_predictions_stay_in_the_unit_interval() -> None:
    x = np.array([[50.0, 50.0, 0.0], [-50.0, -50.0, 0.0]], np.float32)
    assert np.allclose(estimator().predict(x), [[1.0, 0.0], [0.0, 1.0]])


def test_explain_adds_up_to_the_logits() -> None:
    x = np.array([[1.0, 1.0, 0.0]], np.float32)
    found = estimator().explain(x)
    assert found["prompt_vector"] == [0.5, 0.75]
    total = [found["offset"][m] + found["match"][m] for m in ("a", "b")]
    assert np.allclose(total, estimator().logits(x)[0], atol=1e-4)
