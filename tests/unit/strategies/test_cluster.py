from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.cluster import Centroids, ClusterEstimator, ClusterStrategy
from routeiq.strategies.numeric import Calibration, Shrinkage, Space
from routeiq.training.fitting.cluster import fit_cluster
from routeiq.training.table import Table
from tests.support import estimators

POINTS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)


def centroids(top: int = 2, sharpness: float = 1.0) -> Centroids:
    space = Space(np.zeros(2, np.float32), np.ones(2, np.float32), 0)  # nothing is an embedding
    return Centroids(space, POINTS, top, sharpness)


def estimator() -> ClusterEstimator:
    return ClusterEstimator(
        ("a", "b"),
        centroids=centroids(),
        table=np.array([[0.3, -0.1], [0.0, 0.2], [0.0, 0.0]], np.float32),
        counts=np.array([10, 20, 30], np.int32),
        shrinkage=Shrinkage(np.array([0.5, 0.4], np.float32), 1.0, np.ones(2, np.float32)),
        calibration=Calibration.identity(2),
    )


def test_weights_are_a_softmax_over_the_nearest_clusters() -> None:
    weights = centroids().weights(np.array([[1.0, 0.0]], np.float32))[0]
    # squared distances 0 and 2; the third cluster is not among the two nearest
    assert weights == pytest.approx([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(2.0)), 0.0], abs=1e-6)


def test_prediction_on_a_hand_computed_row() -> None:
    near = 1.0 / (1.0 + np.exp(-2.0))
    out = estimator().predict(np.array([[1.0, 0.0]], np.float32))[0]
    assert out == pytest.approx([0.5 + near * 0.3, 0.4 - near * 0.1 + (1 - near) * 0.2], abs=1e-6)


def test_explanation_names_the_nearest_cluster_first() -> None:
    nearest = estimator().explain(np.array([[0.1, 0.9]], np.float32))["clusters"]
    assert [one["cluster"] for one in nearest] == [1, 0]
    assert nearest[0]["rows"] == 20
    assert nearest[0]["quality"] == pytest.approx({"a": 0.5, "b": 0.6})


def test_a_damaged_artifact_is_refused() -> None:
    def fit(known: Table) -> ClusterEstimator:
        return fit_cluster(known, embedding_dimension=estimators.DIMENSION)

    messages = estimators.check_refuses_damage(fit, ClusterEstimator)
    assert any("centres" in message for message in messages)


def test_settings_that_make_no_sense_are_refused() -> None:
    arrays, settings = estimator().state()
    with pytest.raises(ValueError, match="'top' is 'many'"):
        ClusterEstimator.restore(("a", "b"), arrays, settings | {"top": "many"})
    with pytest.raises(ValueError, match="no cluster"):
        ClusterEstimator.restore(("a", "b"), arrays, settings | {"top": 0})


def test_strategy_takes_this_kind_of_artifact() -> None:
    assert ClusterStrategy.name == "cluster"
    assert ClusterStrategy.estimators == {"cluster": ClusterEstimator}
