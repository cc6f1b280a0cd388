"""Bradley-Terry ratings per cluster of prompts: what is left when all that is known is which answer was better.

One global rating would choose the same model for every prompt; ratings per cluster, shrunk to the global ones,
choose by topic. Ratings say how models differ; how hard a cluster is comes from its mean score where scores
exist. Without any score the prediction is the probability to beat an average opponent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .cluster import Centroids
from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import array, sigmoid

ELO_PER_LOGIT = 173.7178
"""400 / ln 10: a Bradley-Terry log-odds difference on the chess scale."""


class EloEstimator(Estimator):
    """sigmoid(shares of the nearest clusters @ `logits` (K, M)); `ratings` (K, M), in logits, are for people."""

    kind: ClassVar[str] = "elo"

    def __init__(
        self, models: tuple[str, ...], *, centroids: Centroids, logits: Matrix, ratings: Matrix
    ) -> None:
        super().__init__(models)
        self.centroids, self.table, self.ratings = centroids, logits, ratings

    def logits(self, x: Matrix) -> Matrix:
        """Log odds of a good answer, (rows, models)."""
        z: Matrix = self.centroids.weights(x) @ self.table
        return z

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, or to beat an average opponent: (rows, models)."""
        return sigmoid(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for an artifact."""
        arrays, settings = self.centroids.state()
        return arrays | {"logits": self.table, "ratings": self.ratings}, settings

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was."""
        centroids = Centroids.restore(arrays, settings)
        shape = (len(centroids.centres), len(models))
        return cls(
            models,
            centroids=centroids,
            logits=array(arrays, "logits", shape),
            ratings=array(arrays, "ratings", shape),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """Each model's rating for this row on the chess scale (1,000 is the mean), and the clusters behind it."""
        weights = self.centroids.weights(x[:1])[0]
        nearest = np.argsort(-weights, kind="stable")[: self.centroids.top].tolist()
        elo = (1000.0 + ELO_PER_LOGIT * (weights @ self.ratings)).tolist()
        return {
            "ratings": {m: round(r, 1) for m, r in zip(self.models, elo, strict=True)},
            "clusters": [{"cluster": i, "weight": float(weights[i])} for i in nearest],
        }


class EloStrategy(LearnedStrategy):
    """Routes by Bradley-Terry ratings on clusters of similar prompts."""

    name = "elo"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"elo": EloEstimator}
