"""Fits `knn`: puts the rows into cells, chooses k and calibrates with each row left out of its own neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routeiq.strategies.knn import KnnEstimator, Neighbours, kernel_mean
from routeiq.strategies.numeric import Space
from routeiq.training.table import Table

from .calibration import fit_calibration
from .cluster import find_centres
from .folds import hashes, in_chunks, subsample
from .space import EMBEDDING_DIMENSION, fit_shrinkage, fit_space, mean_scores

Matrix = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
NEIGHBOURS = (20, 40, 80, 160)
ROWS = 200_000
"""Rows that are kept at most, the same sample every time."""
QUERIES = 4_000
"""Rows that k is chosen and calibrated on at most."""
AXES = 96
"""Dimensions that rows are kept in."""
CELL_ROWS = 1_200
"""Up to that many rows there is one cell, and every search is exact."""
SCANNED = 1_600
"""Rows that a search looks at, at least; and `SCANNED_PER_NEIGHBOUR` times k."""
SCANNED_PER_NEIGHBOUR = 20
BLOCK = 512
STEP_SAMPLE = 20_000


def fit_knn(
    table: Table,
    *,
    seed: int = 0,
    neighbours: tuple[int, ...] = NEIGHBOURS,
    axes: int = AXES,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> KnnEstimator:
    """The rows as an index, with the k that has the least squared error.

    Args:
        table: what to learn from; at least one row. More than `ROWS` are sampled.
        seed: of the samples and the cells.
        neighbours: k to try; those above a third of the rows are cut to it.
        axes: principal components that rows are kept in.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to find neighbours among.")
    if len(table) > ROWS:
        table = table.take(subsample(table.ids, ROWS, seed=seed))
    space = fit_space(table.features, embedding_dimension=embedding_dimension, axes=axes)
    points = in_chunks(space.apply, table.features)
    mean = mean_scores(table.scores, table.weights)
    residuals = (table.scores - mean).astype(np.float16)
    queries = subsample(table.ids, QUERIES, seed=seed)
    tries = sorted({max(1, min(k, len(table) // 3)) for k in neighbours})
    best = _choose(table, points, residuals, mean, queries, tries)
    shrinkage = fit_shrinkage(best.residual, *_labels(table, queries, mean))
    calibration = fit_calibration(
        shrinkage.apply(best.residual), table.scores[queries], table.weights[queries]
    )
    index, order = build_index(table, space, points, best.k, seed=seed)
    even = bool((table.weights == table.weights[0]).all())
    return KnnEstimator(
        table.models,
        neighbours=index,
        k=best.k,
        residuals=np.ascontiguousarray(residuals[order]),
        weights=np.empty(0, np.float32) if even else table.weights[order],
        keys=hashes(table.ids)[order],
        shrinkage=shrinkage,
        calibration=calibration,
        complete=bool(np.isfinite(residuals).all()),
    )


def _labels(table: Table, rows: Index, mean: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    return table.scores[rows], mean, table.weights[rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    k: int
    loss: float
    residual: Matrix


def _choose(
    table: Table,
    points: Matrix,
    residuals: npt.NDArray[np.float16],
    mean: Matrix,
    queries: Index,
    tries: list[int],
) -> _Trial:
    """The k with the least squared error, and what the neighbours of each query say, itself left out."""
    most = min(tries[-1], len(points) - 1)
    found = {k: np.zeros((len(queries), len(mean)), dtype=np.float32) for k in tries}
    complete = bool(np.isfinite(residuals).all())
    for i in range(0, len(queries) if most else 0, BLOCK):
        rows = queries[i : i + BLOCK]
        where, distance = exact_neighbours(points, rows, most)
        near, weights = residuals[where].astype(np.float32), table.weights[where]
        for k in tries:
            part = near[:, :k], distance[:, :k], weights[:, :k]
            found[k][i : i + BLOCK] = kernel_mean(*part, complete=complete)
    trials = []
    for k, residual in found.items():
        scores, _, weights = _labels(table, queries, mean)
        fitted = fit_shrinkage(residual, scores, mean, weights).apply(residual)
        loss = float(np.nansum(weights[:, None] * (fitted - scores) ** 2))
        trials.append(_Trial(k=k, loss=loss, residual=residual))
    return min(trials, key=lambda trial: trial.loss)


def exact_neighbours(points: Matrix, rows: Index, k: int) -> tuple[Index, Matrix]:
    """The k nearest other points of each of these rows, nearest first, and their squared distances."""
    chosen = points[rows]
    distance = (points**2).sum(axis=1) - 2.0 * (chosen @ points.T)
    distance += (chosen**2).sum(axis=1, keepdims=True)
    distance[np.arange(len(rows)), rows] = np.inf  # a row is no neighbour of itself
    where = np.argpartition(distance, k - 1, axis=1)[:, :k]
    away = np.take_along_axis(distance, where, axis=1)
    order = np.argsort(away, axis=1, kind="stable")
    away = np.maximum(np.take_along_axis(away, order, axis=1), 0.0)
    return np.take_along_axis(where, order, axis=1), away.astype(np.float32)


def build_index(
    table: Table, space: Space, points: Matrix, k: int, *, seed: int
) -> tuple[Neighbours, Index]:
    """The rows in cells, and the order that they have there.

    About the square root of n cells; as many are searched as hold the rows that `SCANNED` asks for on average.
    """
    rows = len(points)
    cells = 1 if rows <= CELL_ROWS else int(math.sqrt(rows))
    centres = find_centres(table, space, cells, seed=seed)
    at = in_chunks(lambda z: _cell(z, centres), points).astype(np.int64)
    order = np.argsort(at, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(centres)))])
    step = _step(points)
    packed = in_chunks(lambda z: np.clip(np.rint(z / step), -127, 127), points[order]).astype(
        np.int8
    )
    squared = np.concatenate([_squared(packed[i : i + BLOCK], step) for i in range(0, rows, BLOCK)])
    scanned = max(SCANNED, SCANNED_PER_NEIGHBOUR * k)
    probes = max(1, math.ceil(scanned * len(centres) / rows))
    index = Neighbours(space, packed, step, starts.astype(np.int32), centres, squared, probes)
    return index, order


def _squared(packed: npt.NDArray[np.int8], step: Matrix) -> Matrix:
    """Squared lengths of rows as they are kept."""
    out: Matrix = ((packed * step) ** 2).sum(axis=1).astype(np.float32)
    return out


def _step(points: Matrix) -> Matrix:
    """Width of a byte's step along each axis: but for one value of 2,000 all fit, the others are cut off."""
    sample = np.abs(points[:: -(-len(points) // STEP_SAMPLE)])
    largest = np.maximum(np.quantile(sample, 0.9995, axis=0), 1e-6)
    out: Matrix = (largest / 127.0).astype(np.float32)
    return out


def _cell(z: Matrix, centres: Matrix) -> Matrix:
    """The nearest centre of each point; exact in float32 up to 16 million cells."""
    near = z @ centres.T - 0.5 * (centres**2).sum(axis=1)
    out: Matrix = near.argmax(axis=1).astype(np.float32)
    return out
