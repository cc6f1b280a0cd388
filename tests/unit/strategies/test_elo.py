from __future__ import annotations

import numpy as np
import pytest

from routeiq.strategies.cluster import Centroids
from routeiq.strategies.elo import EloEstimator, EloStrategy
from routeiq.strategies.numeric import Space
from routeiq.training.fitting.elo import fit_elo
from routeiq.training.table import Table
from tests.support import estimators


def estimator() -> EloEstimator:
    space = Space(np.zeros(2, np.float32), np.ones(2, np.float32), 0)
    points = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    return EloEstimator(
        ("a", "b"),
        centroids=Centroids(space, points, 2, 1.0),
        logits=np.array([[1.0, 0.0], [-1.0, 2.0]], np.float32),
        ratings=np.array([[0.5, -0.5], [-1.0, 1.0]], np.float32),
    )


def test_prediction_half_way_between_two_clusters() -> None:
    out = estimator().predict(np.zeros((1, 2), np.float32))[0]
    assert out == pytest.approx([0.5, 1 / (1 + np.exp(-1.0))], abs=1e-6)


def test_explanation_is_on_the_chess_scale() -> None:
    shown = estimator().explain(np.zeros((1, 2), np.float32))
    # mean rating of model b: 0.25 logits, which are 400 / ln 10 points each
    assert shown["ratings"]["b"] == pytest.approx(1000 + 0.25 * 400 / np.log(10), abs=0.1)
    assert [one["weight"] for one in shown["clusters"]] == pytest.approx([0.5, 0.5])


def test_a_damaged_artifact_is_refused() -> None:
    def fit(known: Table) -> EloEstimator:
        return fit_elo(known, embedding_dimension=estimators.DIMENSION)

    messages = estimators.check_refuses_damage(fit, EloEstimator)
    assert any("ratings" in message for message in messages)


def test_strategy_takes_this_kind_of_artifact() -> None:
    assert EloStrategy.name == "elo"
    assert EloStrategy.estimators == {"elo": EloEstimator}
