"""Fits `linucb`: where its regressions start, a ridge per model on the labelled prompts."""

from __future__ import annotations

import numpy as np

from routeiq.strategies.linucb import LinucbEstimator
from routeiq.training.table import Table

from .space import EMBEDDING_DIMENSION, fit_space, mean_scores

AXES = 16
"""Dimensions that the features are projected to: an update must stay far below 0.3 ms."""
RIDGE = 1.0
"""Weight of "no feature matters" in rows; also how sure the start is where there are no labels."""
WORTH = 0.25
"""What a labelled row is worth against an outcome that is seen online."""
CHUNK = 16_384


def fit_linucb(
    table: Table,
    *,
    seed: int = 0,
    axes: int = AXES,
    ridge: float = RIDGE,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> LinucbEstimator:
    """One ridge regression per model in the principal axes of the features, the intercept not shrunk to 0.

    Args:
        table: what to learn from; at least one row. Missing scores are left out model by model.
        seed: not used, nothing is drawn; every fit takes one.
        axes: dimensions of the projection.
        ridge: weight of the penalty.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit a regression on.")
    space = fit_space(table.features, embedding_dimension=embedding_dimension, axes=axes)
    width = (len(space.mean) if space.axes is None else space.axes.shape[1]) + 1
    count = len(table.models)
    gram = np.tile(np.eye(width) * ridge, (count, 1, 1))
    start = mean_scores(table.scores, table.weights).astype(np.float64)
    moment = np.zeros((count, width))
    moment[:, -1] = ridge * start
    for first in range(0, len(table), CHUNK):
        rows = slice(first, first + CHUNK)
        z = space.apply(table.features[rows]).astype(np.float64)
        z = np.concatenate([z, np.ones((len(z), 1))], axis=1)
        for model in range(count):
            scores = table.scores[rows, model]
            seen = np.isfinite(scores)
            weighted = z[seen] * (WORTH * table.weights[rows][seen, None])
            gram[model] += weighted.T @ z[seen]
            moment[model] += weighted.T @ scores[seen]
    inverse = np.linalg.inv(gram).astype(np.float64)
    theta = np.einsum("mij,mj->mi", inverse, moment)
    return LinucbEstimator(table.models, space=space, theta=theta, inverse=inverse)
