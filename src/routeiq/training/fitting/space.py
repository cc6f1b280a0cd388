"""Fits the parts that estimators share: the space of prompts, and the shrinkage of residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.strategies.numeric import Shrinkage, Space

Matrix = npt.NDArray[np.float32]
EMBEDDING_DIMENSION = 256
LEXICAL_WEIGHT = 0.25
"""Length of a standard deviation of a lexical column, where an embedding has length 1. From a search over 0, 0.1,
0.2, 0.25 and 0.35 by 5-fold kNN on three public sets: flat between 0.2 and 0.35, clearly better than 0."""
LEAST_DEVIATION = 0.05
"""A rare flag has a tiny deviation; dividing by it would put its rows far from everything."""
SAMPLE = 100_000
"""Rows that means, deviations and axes are estimated from at most."""


def fit_space(
    x: Matrix,
    *,
    embedding_dimension: int = EMBEDDING_DIMENSION,
    lexical_weight: float = LEXICAL_WEIGHT,
    axes: int | None = None,
) -> Space:
    """Centre, column weights and, where asked for, the principal axes of these features.

    Args:
        x: features (n, d), n at least 1.
        embedding_dimension: how many of the first columns are an embedding; the others are lexical.
        lexical_weight: see `LEXICAL_WEIGHT`.
        axes: project to that many dimensions, by principal components; `None` keeps all.
    """
    step = -(-len(x) // SAMPLE)
    sample = np.asarray(x[::step], np.float32)
    split = min(embedding_dimension, x.shape[1])
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = sample[:, split:].std(axis=0, dtype=np.float64)
    scale = np.ones(x.shape[1], dtype=np.float32)
    scale[split:] = lexical_weight / np.maximum(deviation, LEAST_DEVIATION)
    space = Space(mean, scale, split)
    if axes is None or axes >= x.shape[1]:
        return space
    z = space.apply(sample).astype(np.float64)
    _, vectors = np.linalg.eigh(z.T @ z)
    kept = np.ascontiguousarray(vectors[:, ::-1][:, :axes], dtype=np.float32)
    return Space(mean, scale, split, kept)


def mean_scores(scores: Matrix, weights: Matrix, *, strength: float = 2.0) -> Matrix:
    """Each model's mean score, shrunk to the mean of all by `strength` rows; 0.5 where nobody measured any."""
    seen = np.isfinite(scores)
    w = weights[:, None] * seen
    total, mass = (np.where(seen, scores, 0.0) * w).sum(axis=0, dtype=np.float64), w.sum(axis=0)
    overall = total.sum() / mass.sum() if mass.sum() > 0.0 else 0.5
    out: Matrix = ((total + strength * overall) / (mass + strength)).astype(np.float32)
    return out


def fit_shrinkage(
    residual: npt.NDArray[Any], scores: Matrix, mean: Matrix, weights: Matrix
) -> Shrinkage:
    """The factors with which residuals that were estimated out of fold predict scores best, by least squares.

    Args:
        residual: estimated score minus the model's mean, out of fold, (n, M).
        scores: labels in [0, 1], (n, M); NaN where nobody measured.
        mean: each model's mean, (M,).
        weights: row weights, (n,).
    """
    seen = np.isfinite(scores) & np.isfinite(residual)
    r = np.where(np.isfinite(residual), residual, 0.0).astype(np.float64)
    shared = np.broadcast_to(r.mean(axis=1, keepdims=True), r.shape)
    own = r - shared
    target = np.where(seen, scores - mean, 0.0)
    w = weights[:, None] * seen
    cross = (w * shared * own).sum()
    normal = np.array([[(w * shared**2).sum(), cross], [cross, (w * own**2).sum()]])
    right = np.array([(w * shared * target).sum(), (w * own * target).sum()])
    ridge = 1e-3 * np.trace(normal) / 2.0 + 1e-9  # towards 1 each: what no row contradicts stays
    a, b = np.linalg.solve(normal + ridge * np.eye(2), right + ridge)
    a, b = float(np.clip(a, 0.0, 1.5)), float(np.clip(b, 0.0, 1.5))
    power = (w * own**2).sum(axis=0)
    pull = 0.3 * power.mean() + 1e-9
    fitted = ((w * own * (target - a * shared)).sum(axis=0) + pull * b) / (power + pull)
    return Shrinkage(mean, a, np.clip(fitted, 0.0, 1.5).astype(np.float32))
