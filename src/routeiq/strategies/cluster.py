"""k-means clusters of prompts; a model's quality in a cluster is what it scored there, shrunk to its mean.

After Avengers-Pro (arXiv 2508.12631): a prompt takes the softmax-weighted mean over its nearest clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, Shrinkage, Space, array, number


class Centroids:
    """Centres of clusters (K, r) in a space, and how a prompt is shared between the nearest of them.

    Weight of a cluster: softmax of -sharpness * squared distance over the `top` nearest ones.
    """

    __slots__ = ("_half_squared", "_scaled", "centres", "sharpness", "space", "top")

    def __init__(self, space: Space, centres: Matrix, top: int, sharpness: float) -> None:
        self.space, self.centres = space, centres
        self.top, self.sharpness = min(top, len(centres)), sharpness
        self._scaled = np.ascontiguousarray(centres.T * np.float32(2.0 * sharpness))
        self._half_squared = (centres**2).sum(axis=1) * np.float32(sharpness)

    def weights(self, x: Matrix) -> Matrix:
        """Share of each cluster for rows of features: (n, K), rows sum to 1."""
        return self.of_points(self.space.apply(x))

    def of_points(self, z: Matrix) -> Matrix:
        """The same for rows that are points of the space already."""
        near: Matrix = z @ self._scaled
        near -= self._half_squared
        count = len(self.centres)
        if self.top < count:
            least = np.partition(near, count - self.top, axis=1)[:, count - self.top, None]
            np.copyto(near, np.float32(-np.inf), where=near < least)
        near -= near.max(axis=1, keepdims=True)
        np.exp(near, out=near)
        near /= near.sum(axis=1, keepdims=True)
        return near

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings that an artifact keeps."""
        settings = {
            "top": self.top,
            "sharpness": self.sharpness,
            "embedding_dimension": self.space.embedding_dimension,
        }
        return self.space.arrays() | {"centres": self.centres}, settings

    @classmethod
    def restore(cls, arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The clusters whose `state` this was.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        space = Space.restore(arrays, settings)
        width = len(space.mean) if space.axes is None else space.axes.shape[1]
        centres = array(arrays, "centres", (None, width))
        top, sharpness = number(settings, "top", int), number(settings, "sharpness", float)
        if top < 1 or not len(centres):
            raise ValueError("no cluster to look at: train it again.")
        return cls(space, centres, top, sharpness)


class ClusterEstimator(Estimator):
    """Mean score of the nearest clusters. `table` (K, M) has the residuals, `counts` (K,) the training rows."""

    kind: ClassVar[str] = "cluster"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        centroids: Centroids,
        table: Matrix,
        counts: npt.NDArray[np.int32],
        shrinkage: Shrinkage,
        calibration: Calibration,
    ) -> None:
        super().__init__(models)
        self.centroids, self.table, self.counts = centroids, table, counts
        self.shrinkage, self.calibration = shrinkage, calibration
        self._quality = shrinkage.apply(table)  # linear, so that it may come before the mix

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (rows, models)."""
        return self.calibration.apply(self.centroids.weights(x) @ self._quality)

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for an artifact."""
        arrays, settings = self.centroids.state()
        own = {"table": self.table, "counts": self.counts}
        return arrays | own | self.shrinkage.arrays() | self.calibration.arrays(), settings

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was."""
        centroids = Centroids.restore(arrays, settings)
        count = len(centroids.centres)
        return cls(
            models,
            centroids=centroids,
            table=array(arrays, "table", (count, len(models))),
            counts=array(arrays, "counts", (count,), np.int32),
            shrinkage=Shrinkage.restore(len(models), arrays),
            calibration=Calibration.restore(len(models), arrays),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The clusters that a row is shared between: weight, training rows, quality of each model there."""
        weights = self.centroids.weights(x[:1])[0]
        nearest = np.argsort(-weights, kind="stable")[: self.centroids.top].tolist()
        return {
            "clusters": [
                {
                    "cluster": one,
                    "weight": float(weights[one]),
                    "rows": int(self.counts[one]),
                    "quality": dict(zip(self.models, self._quality[one].tolist(), strict=True)),
                }
                for one in nearest
            ]
        }


class ClusterStrategy(LearnedStrategy):
    """Routes by what models scored on clusters of similar prompts."""

    name = "cluster"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"cluster": ClusterEstimator}
