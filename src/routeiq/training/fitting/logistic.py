"""Fits `logistic`: penalised lines for all models at once on soft labels, Platt folded into the coefficients."""

from __future__ import annotations

from routeiq.strategies.logistic import LogisticEstimator
from routeiq.training.table import Table

from .folds import in_chunks, subsample
from .linear import Penalty, choose_penalty, fit_line
from .space import EMBEDDING_DIMENSION, LEXICAL_WEIGHT, fit_space

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
RATIO = 1.0
"""Penalty of what is a model's own relative to the shared. 4 had more squared error on all four public sets."""
ROWS = 150_000
"""Rows that are fitted on at most: 270 coefficients per model are settled long before."""
SEARCH_ROWS = 10_000
"""Rows that the penalty is searched and calibrated on at most."""


def fit_logistic(
    table: Table,
    *,
    seed: int = 0,
    penalties: tuple[float, ...] = PENALTIES,
    ratio: float = RATIO,
    lexical_weight: float = LEXICAL_WEIGHT,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> LogisticEstimator:
    """Lines whose penalty is chosen by 5-fold squared error, calibrated out of fold.

    Args:
        table: what to learn from; at least one row.
        seed: of the folds and of the sample where there are more than `ROWS` rows.
        penalties: on the shared coefficients, to try.
        ratio: penalty on a model's own coefficients relative to that.
        lexical_weight: length of a standard deviation of a lexical column.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit a logistic regression on.")
    space = fit_space(
        table.features, embedding_dimension=embedding_dimension, lexical_weight=lexical_weight
    )
    tries = [Penalty(shared=one, own=one * ratio) for one in sorted(penalties, reverse=True)]
    search = table.take(subsample(table.ids, SEARCH_ROWS, seed=seed))
    chosen = choose_penalty(space.apply(search.features), search, tries, seed=seed)
    kept = subsample(table.ids, ROWS, seed=seed)
    z = in_chunks(space.apply, table.features[kept])
    line = fit_line(z, table.scores[kept], table.weights[kept], chosen.penalty)
    coefficients, intercepts = chosen.calibrated(line)
    return LogisticEstimator(
        table.models, space=space, coefficients=coefficients, intercepts=intercepts
    )
