"""Fits `adaptive`: an offline estimator, and the cells of the prompt space in which it will collect feedback."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from routeiq.strategies.adaptive import AdaptiveEstimator
from routeiq.strategies.cluster import Centroids
from routeiq.training.table import Table

from .cluster import find_centres, usable
from .space import EMBEDDING_DIMENSION, fit_space

CELLS = 32
"""Most cells: feedback on one of ten models in one of them must come often enough to say something."""


def fit_adaptive(
    table: Table,
    *,
    seed: int = 0,
    base: str = "hybrid",
    cells: int = CELLS,
    embedding_dimension: int = EMBEDDING_DIMENSION,
    **settings: Any,
) -> AdaptiveEstimator:
    """The base estimator with k-means cells.

    Args:
        table: what to learn from; at least one row.
        seed: of the base's fit and of k-means.
        base: kind of the offline estimator, a module of this package.
        cells: how many cells, where the rows suffice.
        embedding_dimension: how many of the first feature columns are an embedding.
        **settings: what the base's fit takes.

    Raises:
        ValueError: the table has no row, or `base` is no kind of estimator.
    """
    if not len(table):
        raise ValueError("no rows to fit on.")
    try:
        fit = getattr(import_module(f"{__package__}.{base}"), f"fit_{base}")
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{base!r} is no kind of estimator that can be fitted.") from error
    space = fit_space(table.features, embedding_dimension=embedding_dimension)
    count = usable((cells,), len(table))[0]
    centres = find_centres(table, space, count, seed=seed)
    return AdaptiveEstimator(fit(table, seed=seed, **settings), Centroids(space, centres, 1, 1.0))
