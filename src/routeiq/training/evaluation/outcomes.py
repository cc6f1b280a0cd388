"""What is evaluated against: measured quality and cost per row and model, and the cost a router could predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.training.errors import DataError
from routeiq.training.table import Table

Array = npt.NDArray[np.float64]
FOLDS = 5
"""Folds of the cost model: a row's predicted cost never comes from its own measured cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """n rows, M models. Rows without any measured score are not here.

    `scores` (n, M) in [0, 1], NaN where a model was not measured: such a model is no candidate for that row.
    `costs` (n, M) in USD as billed, finite. `predicted` (n, M) in USD: what a router may know when it chooses.
    `priced` says whether any cost was measured; without, costs are zero and cost metrics are not reported.
    `difficulty` and `lengths` (n,), where known, are for the baselines that route by a single number.
    """

    models: tuple[str, ...]
    scores: Array
    costs: Array
    predicted: Array
    tasks: tuple[str, ...]
    priced: bool = True
    difficulty: Array | None = None
    lengths: Array | None = None
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(n, M): where a score was measured."""
        return np.isfinite(self.scores)

    def take(self, rows: npt.NDArray[Any]) -> Outcomes:
        """The rows with these indexes, or where this mask holds, in order."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        places = index.tolist()
        return replace(
            self,
            scores=self.scores[index],
            costs=self.costs[index],
            predicted=self.predicted[index],
            tasks=tuple(self.tasks[i] for i in places),
            difficulty=None if self.difficulty is None else self.difficulty[index],
            lengths=None if self.lengths is None else self.lengths[index],
            texts=None if self.texts is None else tuple(self.texts[i] for i in places),
        )


def outcomes(
    models: tuple[str, ...],
    scores: npt.NDArray[Any],
    costs: npt.NDArray[Any] | None = None,
    *,
    predicted: npt.NDArray[Any] | None = None,
    tasks: tuple[str, ...] | None = None,
    texts: tuple[str, ...] | None = None,
    difficulty: npt.NDArray[Any] | None = None,
) -> Outcomes:
    """Outcomes from arrays.

    An unmeasured cost becomes the model's mean cost, the dearest model's for a model that has none at all (an
    unknown price never counts as free). Without `predicted`, costs are predicted out of fold from the prompt's
    length.

    Raises:
        DataError: the shapes do not fit, or no row has a measured score.
    """
    quality = np.array(scores, dtype=np.float64)
    if quality.ndim != 2 or quality.shape[1] != len(models):
        raise DataError(f"scores must be (rows, {len(models)} models), got {quality.shape}.")
    usable: npt.NDArray[np.bool_] = np.atleast_1d(np.isfinite(quality).any(axis=1))
    if not usable.any():
        raise DataError("no row has a score: there is nothing to evaluate.")
    money = np.full(quality.shape, np.nan) if costs is None else np.array(costs, dtype=np.float64)
    priced = bool(np.isfinite(money[usable]).any())
    lengths = None if texts is None else np.array([len(text) for text in texts], dtype=np.float64)
    filled = fill_costs(money)
    guess = (
        predict_costs(money, lengths) if predicted is None else fill_costs(np.asarray(predicted))
    )
    hard = None if difficulty is None else np.asarray(difficulty, dtype=np.float64).ravel()
    found = Outcomes(
        models=models,
        scores=quality,
        costs=filled,
        predicted=guess.astype(np.float64),
        tasks=tasks or ("",) * len(quality),
        priced=priced,
        difficulty=hard if hard is not None and np.isfinite(hard).all() else None,
        lengths=lengths,
        texts=texts,
    )
    return found if usable.all() else found.take(usable)


def from_table(table: Table, *, predicted: npt.NDArray[Any] | None = None) -> Outcomes:
    """Outcomes of a data table; `predicted` as in `outcomes`.

    Raises:
        DataError: no row has a measured score.
    """
    return outcomes(
        table.models,
        table.scores,
        table.costs,
        predicted=predicted,
        tasks=table.tasks,
        texts=table.texts,
        difficulty=table.prior if table.prior.shape[0] == len(table) else None,
    )


def fill_costs(costs: npt.NDArray[Any]) -> Array:
    """Costs with every missing one replaced: the model's mean, else the dearest model's mean, else 0."""
    money = np.array(costs, dtype=np.float64)
    known = np.isfinite(money)
    counts = known.sum(axis=0)
    sums = np.where(known, money, 0.0).sum(axis=0)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    dearest = float(np.nanmax(means)) if (counts > 0).any() else 0.0
    means = np.where(counts > 0, means, dearest)
    filled: Array = np.where(known, money, means)
    return filled


def predict_costs(costs: npt.NDArray[Any], lengths: Array | None) -> Array:
    """Cost per row and model as a straight line in the prompt's length, fitted on the other folds' rows.

    Without lengths the line is flat: the model's mean. Never below the cheapest request that the model had.
    """
    money = fill_costs(costs)
    rows = len(money)
    size = np.zeros(rows) if lengths is None else lengths
    fold = np.arange(rows) % FOLDS
    predicted = np.empty_like(money)
    for part in range(FOLDS):
        held = fold == part
        train = ~held if rows > FOLDS else np.ones(rows, dtype=bool)
        x, y = size[train], money[train]
        spread = float(((x - x.mean()) ** 2).sum())
        slope = ((x - x.mean()) @ (y - y.mean(axis=0)) / spread) if spread > 0.0 else 0.0 * y[0]
        line = y.mean(axis=0) + (size[held, None] - x.mean()) * slope
        predicted[held] = np.maximum(line, y.min(axis=0))
    return predicted
