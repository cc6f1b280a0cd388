"""Fits `cluster`: k-means over prompts, the mean residual of each model per cluster, everything else by fold.

The clusters are found on features alone, without labels, so that one k-means serves all folds; the tables of
scores are what is cross-fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from routeiq.strategies.cluster import Centroids, ClusterEstimator
from routeiq.strategies.numeric import Space
from routeiq.training.errors import require
from routeiq.training.table import Table

from .calibration import fit_calibration
from .folds import fold_of, in_chunks, subsample
from .space import EMBEDDING_DIMENSION, fit_shrinkage, fit_space, mean_scores

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
CLUSTERS = (16, 32, 64, 128)
TOPS = (4, 8, 16)
SHARPNESS = (2.0, 5.0)
STRENGTHS = (5.0, 20.0)
ROWS_PER_CLUSTER = 10
"""Fewer rows than that in a cluster on average say nothing that shrinkage would leave."""
SAMPLE = 50_000
"""Rows that k-means looks at, at most; the tables use all."""
CHECKED = 50_000
"""Rows that settings are compared and calibrated on, at most."""
SMALL = 20_000
"""Up to here full k-means, above in mini-batches."""
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    centroids: Centroids
    sums: Sums
    strength: float
    loss: float
    residual: Matrix


def fit_cluster(
    table: Table,
    *,
    seed: int = 0,
    clusters: tuple[int, ...] = CLUSTERS,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> ClusterEstimator:
    """Clusters, their number chosen by 5-fold squared error, calibrated out of fold.

    Args:
        table: what to learn from; at least one row.
        seed: of k-means and the folds.
        clusters: numbers of clusters to try; those with too few rows each are left out.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit clusters on.")
    space = fit_space(table.features, embedding_dimension=embedding_dimension)
    mean = mean_scores(table.scores, table.weights)
    fold = fold_of(table.ids, FOLDS, seed=seed)
    checked = subsample(table.ids, CHECKED, seed=seed)
    points = in_chunks(space.apply, table.features[checked])
    best: _Trial | None = None
    for count in usable(clusters, len(table)):
        found = Centroids(space, find_centres(table, space, count, seed=seed), 1, 1.0)
        sums = fold_sums(table, mean, nearest(table.features, found), fold, len(found.centres))
        for trial in _trials(table, mean, fold, found, sums, (checked, points)):
            if best is None or trial.loss < best.loss:
                best = trial
    assert best is not None  # noqa: S101 - `usable` gives one at least
    scores, weights = table.scores[checked], table.weights[checked]
    shrinkage = fit_shrinkage(best.residual, scores, mean, weights)
    return ClusterEstimator(
        table.models,
        centroids=best.centroids,
        table=best.sums.table(best.strength),
        counts=best.sums.rows.astype(np.int32),
        shrinkage=shrinkage,
        calibration=fit_calibration(shrinkage.apply(best.residual), scores, weights),
    )


def _trials(
    table: Table,
    mean: Matrix,
    fold: Index,
    found: Centroids,
    sums: Sums,
    check: tuple[Index, Matrix],
) -> Iterator[_Trial]:
    """Every setting for one clustering, with its squared error on rows whose fold was left out."""
    checked, points = check
    scores, weights = table.scores[checked], table.weights[checked]
    for top, sharpness in product(TOPS, SHARPNESS):
        centroids = Centroids(found.space, found.centres, top, sharpness)
        share = in_chunks(centroids.of_points, points)
        for strength in STRENGTHS:
            residual = np.zeros(scores.shape, dtype=np.float32)
            for one in range(FOLDS):
                held = fold[checked] == one
                residual[held] = share[held] @ sums.table(strength, without=one)
            fitted = fit_shrinkage(residual, scores, mean, weights).apply(residual)
            loss = float(np.nansum(weights[:, None] * (fitted - scores) ** 2))
            yield _Trial(
                centroids=centroids, strength=strength, loss=loss, residual=residual, sums=sums
            )


def usable(clusters: tuple[int, ...], rows: int) -> list[int]:
    """The numbers of clusters that so many rows can fill, one at least."""
    most = max(1, rows // ROWS_PER_CLUSTER)
    return sorted({min(count, most) for count in clusters})


def find_centres(table: Table, space: Space, count: int, *, seed: int) -> Matrix:
    """Centres of `count` k-means clusters, of a sample of at most `SAMPLE` rows."""
    rows = subsample(table.ids, SAMPLE, seed=seed)
    z = in_chunks(space.apply, table.features[rows])
    if count <= 1 or len(np.unique(z, axis=0)) <= count:
        return np.unique(z, axis=0)[:count] if count > 1 else z.mean(axis=0, keepdims=True)
    module = require("sklearn.cluster", extra="train", purpose="k-means")
    if len(z) <= SMALL:
        model = module.KMeans(count, n_init=1, max_iter=50, random_state=seed)
    else:
        model = module.MiniBatchKMeans(count, n_init=1, batch_size=4096, random_state=seed)
    return np.ascontiguousarray(model.fit(z).cluster_centers_, dtype=np.float32)


def nearest(features: Matrix, centroids: Centroids) -> Index:
    """The nearest cluster of each row."""
    one = Centroids(centroids.space, centroids.centres, 1, 1.0)
    found = in_chunks(lambda x: one.weights(x).argmax(axis=1).astype(np.float32), features)
    return found.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What the labels of each cluster add up to, kept by fold.

    `residual` and `mass` are (folds, K, M): weighted sums of score minus mean, and of weights. `rows` is (K,).
    """

    residual: Floats
    mass: Floats
    rows: Index

    def table(self, strength: float, without: int | None = None) -> Matrix:
        """Mean residual per cluster and model, shrunk by `strength` rows to 0, one fold left out on request."""
        residual, mass = self.residual.sum(axis=0), self.mass.sum(axis=0)
        if without is not None:
            residual, mass = residual - self.residual[without], mass - self.mass[without]
        out: Matrix = (residual / (mass + strength)).astype(np.float32)
        return out


def fold_sums(table: Table, mean: Matrix, cluster: Index, fold: Index, count: int) -> Sums:
    """Adds up a table's scores by fold and cluster, a model at a time so that memory stays small."""
    at = fold * count + cluster
    size = FOLDS * count
    residual: list[Floats] = []
    mass: list[Floats] = []
    for m in range(table.scores.shape[1]):
        score = table.scores[:, m]
        rows = np.flatnonzero(np.isfinite(score))
        w = table.weights[rows].astype(np.float64)
        residual.append(np.bincount(at[rows], w * (score[rows] - mean[m]), size).astype(np.float64))
        mass.append(np.bincount(at[rows], w, size).astype(np.float64))
    shape = (FOLDS, count, table.scores.shape[1])
    return Sums(
        residual=np.stack(residual, axis=1).reshape(shape),
        mass=np.stack(mass, axis=1).reshape(shape),
        rows=np.bincount(cluster, minlength=count),
    )
