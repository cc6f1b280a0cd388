"""k nearest prompts: a model's quality is the kernel-weighted mean of what it scored on them.

Up to 200,000 rows are searched in cells (an inverted file, Jégou et al. 2011): the rows of the nearest cells only,
kept as one byte per coordinate and mapped from the artifact, each at its exact quantised distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, Shrinkage, Space, array, number

KERNEL = 4.0
"""Weight of a neighbour: exp(-KERNEL * squared distance / mean squared distance of the neighbours)."""
PSEUDO_NEIGHBOURS = 4.0
"""Neighbours without a residual that every mean contains: what few labels say is pulled to the model's mean."""
SHOWN = 10
"""Neighbours that an explanation lists."""
Bytes = npt.NDArray[np.int8]
Index = npt.NDArray[np.intp]


class Neighbours:
    """Rows of a space in cells, searched cell by cell.

    `rows` (n, r) int8 are coordinates in units of `step` (r,), sorted by cell; `starts` (cells + 1,) says where a
    cell begins, `centres` (cells, r) where its middle is; `squared` (n,) are the squared lengths of the rows.
    """

    __slots__ = (
        "_double",
        "_half",
        "_squared",
        "centres",
        "probes",
        "rows",
        "space",
        "starts",
        "step",
    )

    def __init__(
        self,
        space: Space,
        rows: Bytes,
        step: Matrix,
        starts: npt.NDArray[np.int32],
        centres: Matrix,
        squared: Matrix,
        probes: int,
    ) -> None:
        self.space, self.rows, self.step, self.centres = space, rows, step, centres
        self.starts, self.probes = starts.tolist(), min(probes, len(centres))
        self._squared = squared
        self._double = np.ascontiguousarray(centres.T)
        self._half = (centres**2).sum(axis=1) * np.float32(0.5)

    def search(self, point: Matrix, k: int) -> tuple[Index, Matrix]:
        """The k rows nearest to a point (r,) in any order, fewer where there are fewer, and squared distances."""
        query = point * self.step
        query *= np.float32(-2.0)
        where, distance = self._scan(point, query)
        distance += np.float32(point @ point)
        if len(where) > k:
            kept = np.argpartition(distance, k - 1)[:k]
            where, distance = where[kept], distance[kept]
        return where, np.maximum(distance, np.float32(0.0))

    def _scan(self, point: Matrix, query: Matrix) -> tuple[Index, Matrix]:
        """Squared distance, less that of the point, to all rows of the nearest cells."""
        rows, squared, starts = self.rows, self._squared, self.starts
        if self.probes == len(self.centres):
            return np.arange(len(rows)), rows.astype(np.float32) @ query + squared
        near = point @ self._double
        near -= self._half
        cells = np.argpartition(near, -self.probes)[-self.probes :].tolist()
        spans = [(starts[cell], starts[cell + 1]) for cell in cells]
        where = np.concatenate([np.arange(a, b) for a, b in spans])
        block = np.concatenate([rows[a:b] for a, b in spans]).astype(np.float32)
        distance: Matrix = block @ query
        distance += squared[where]
        return where, distance

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings that an artifact keeps."""
        arrays = self.space.arrays() | {
            "rows": self.rows,
            "step": self.step,
            "starts": np.array(self.starts, np.int32),
            "centres": self.centres,
            "squared": self._squared,
        }
        return arrays, {
            "probes": self.probes,
            "embedding_dimension": self.space.embedding_dimension,
        }

    @classmethod
    def restore(cls, arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The rows whose `state` this was.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        space = Space.restore(arrays, settings)
        width = len(space.mean) if space.axes is None else space.axes.shape[1]
        rows = array(arrays, "rows", (None, width), np.int8)
        centres = array(arrays, "centres", (None, width))
        starts = array(arrays, "starts", (len(centres) + 1,), np.int32)
        if not len(rows) or (np.diff(starts) < 0).any() or starts[0] or starts[-1] != len(rows):
            raise ValueError("array 'starts' does not divide the rows into cells: train it again.")
        return cls(
            space,
            rows,
            array(arrays, "step", (width,)),
            starts,
            centres,
            array(arrays, "squared", (len(rows),)),
            max(1, number(settings, "probes", int)),
        )


def kernel_mean(
    residuals: Matrix, distance: Matrix, weights: Matrix | None, *, complete: bool
) -> Matrix:
    """Weighted mean residual over neighbours, (..., k, M) and (..., k) to (..., M), pulled to 0.

    Args:
        residuals: score less the model's mean; NaN where nobody measured.
        distance: squared distance of each neighbour.
        weights: row weights of the neighbours; `None` where all are 1.
        complete: whether there is no NaN, which saves looking for it.
    """
    w = distance * (
        np.float32(-KERNEL) / (distance.mean(axis=-1, keepdims=True) + np.float32(1e-6))
    )
    np.exp(w, out=w)
    if weights is not None:
        w *= weights
    w /= w.sum(axis=-1, keepdims=True) + np.float32(1e-30)
    pull = np.float32(PSEUDO_NEIGHBOURS / distance.shape[-1])
    if complete:
        mean: Matrix = (w[..., None, :] @ residuals)[..., 0, :]
        mean /= np.float32(1.0) + pull
        return mean
    seen = ~np.isnan(residuals)
    total: Matrix = (w[..., None, :] @ np.where(seen, residuals, np.float32(0.0)))[..., 0, :]
    total /= (w[..., None, :] @ seen.astype(np.float32))[..., 0, :] + pull
    return total


class KnnEstimator(Estimator):
    """`residuals` (n, M), `keys` (n,), hashes of row ids, and `weights` (n,) lie as the rows of `neighbours`."""

    kind: ClassVar[str] = "knn"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        neighbours: Neighbours,
        k: int,
        residuals: npt.NDArray[np.float16],
        weights: Matrix,
        keys: npt.NDArray[np.uint64],
        shrinkage: Shrinkage,
        calibration: Calibration,
        complete: bool,
    ) -> None:
        super().__init__(models)
        self.neighbours, self.k, self.keys = neighbours, k, keys
        self.residuals, self.weights = residuals, weights
        self.shrinkage, self.calibration, self.complete = shrinkage, calibration, complete
        self._even = not len(weights)

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (rows, models)."""
        points = self.neighbours.space.apply(x)
        found = np.empty((len(x), len(self.models)), dtype=np.float32)
        for i, point in enumerate(points):
            where, distance = self.neighbours.search(point, self.k)
            weights = None if self._even else self.weights[where]
            near = self.residuals[where].astype(np.float32)
            found[i] = kernel_mean(near, distance, weights, complete=self.complete)
        return self.calibration.apply(self.shrinkage.apply(found))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for an artifact. No prompt is in it: rows are points, ids are hashes."""
        arrays, settings = self.neighbours.state()
        arrays |= {"residuals": self.residuals, "weights": self.weights, "keys": self.keys}
        arrays |= self.shrinkage.arrays() | self.calibration.arrays()
        return arrays, settings | {"k": self.k, "complete": self.complete}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was."""
        neighbours = Neighbours.restore(arrays, settings)
        count = len(neighbours.rows)
        weights = array(arrays, "weights", (None,))
        if len(weights) not in (0, count):
            raise ValueError(f"array 'weights' has {len(weights)} rows of {count}: train it again.")
        return cls(
            models,
            neighbours=neighbours,
            k=max(1, number(settings, "k", int)),
            residuals=array(arrays, "residuals", (count, len(models)), np.float16),
            weights=weights,
            keys=array(arrays, "keys", (count,), np.uint64),
            shrinkage=Shrinkage.restore(len(models), arrays),
            calibration=Calibration.restore(len(models), arrays),
            complete=settings.get("complete") is True,
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The nearest training rows: hash of the id, similarity (1 at distance 0), scores."""
        point = self.neighbours.space.apply(x[:1])[0]
        where, distance = self.neighbours.search(point, self.k)
        order = np.argsort(distance, kind="stable")[:SHOWN]
        scores = self.residuals[where[order]].astype(np.float32) + self.shrinkage.mean
        return {
            "k": self.k,
            "neighbours": [
                {
                    "row": f"{int(self.keys[row]):016x}",
                    "similarity": float(1.0 / (1.0 + away)),
                    "scores": {
                        model: round(score, 3)
                        for model, score in zip(self.models, values, strict=True)
                        if score == score  # NaN: nobody measured
                    },
                }
                for row, away, values in zip(
                    where[order].tolist(), distance[order].tolist(), scores.tolist(), strict=True
                )
            ],
        }


class KnnStrategy(LearnedStrategy):
    """Routes by what models scored on the most similar prompts."""

    name = "knn"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"knn": KnnEstimator}
