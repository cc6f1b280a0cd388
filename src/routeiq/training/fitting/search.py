"""A bounded search for hyper-parameters: a fixed number of seeded trials on a bounded sample, never open-ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from routeiq.strategies.estimator import Estimator, Matrix
from routeiq.training.table import Table

from .adam import bounded
from .folds import fold_of

Grid = Mapping[str, Sequence[Any]]
Fit = Callable[..., Estimator]

ROWS = 5_000
"""Rows that a trial sees at most."""
FOLDS = 4
"""A trial is fitted on all but one of so many folds and judged on that one."""
FEWEST = 60
"""Rows below which the defaults are as good as anything that so few labels could choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Settings that were tried and the error that they got; lower is better."""

    settings: dict[str, Any]
    error: float


def search(
    fit: Fit,
    table: Table,
    grid: Grid,
    *,
    trials: int,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Trial]:
    """Try settings, the best first.

    The error is the mean squared error on held-out rows, with that of the differences between models counted once
    more: they are what a router chooses by.

    Args:
        fit: a `fit_<kind>`; called with `seed` and the settings.
        table: rows; at most `ROWS` of them are used.
        grid: values to try by setting. The first value of each is the default, and the defaults are always tried.
        trials: how many settings are tried at most; the others are drawn from the grid by `seed`.
        seed: of the draw, the split, and the fits.
        progress: told of every trial.

    Returns:
        The trials by ascending error; only the defaults, with error NaN, where there are too few rows to choose.
    """
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if trials < 2 or len(combinations) < 2 or len(table) < FEWEST:
        return [Trial(settings=combinations[0], error=float("nan"))]
    order = np.random.default_rng(seed).permutation(np.arange(1, len(combinations)))
    chosen = [combinations[0], *(combinations[i] for i in order[: trials - 1])]
    sample = bounded(table, seed, ROWS)
    held = fold_of(sample.ids, FOLDS, seed=seed) == 0
    kept, out = sample.take(~held), sample.take(held)
    done = []
    for number, settings in enumerate(chosen, 1):
        predicted = fit(kept, seed=seed, **settings).predict(out.features)
        error = difference_error(predicted, out.scores)
        done.append(Trial(settings=settings, error=error))
        if progress is not None:
            progress(f"trial {number} of {len(chosen)}: {settings} error {error:.5f}")
    return sorted(done, key=lambda trial: trial.error)


def difference_error(predicted: Matrix, scores: Matrix) -> float:
    """Mean squared error plus that of each row's differences from its own mean; NaN scores do not count.

    Args:
        predicted: (n, M).
        scores: (n, M).
    """
    seen = np.isfinite(scores)
    if not seen.any():
        return float("nan")
    error = np.where(seen, predicted - np.where(seen, scores, 0.0), 0.0)
    counts = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    common = error.sum(axis=1, keepdims=True) / counts
    own = np.where(seen, error - common, 0.0)
    return float(((error**2).sum() + (own**2).sum()) / seen.sum())
