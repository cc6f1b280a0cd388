"""Gradient descent for the small networks: Adam (Kingma and Ba 2015) with decoupled decay and averaged weights.

Everything is NumPy and seeded, so a fit is the same on every machine with the same BLAS. Rows are scaled
batch by batch, so that a million rows are never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routeiq.training.table import Table

from .folds import subsample

Matrix = npt.NDArray[np.float32]
Parameters = dict[str, Matrix]
Gradient = Callable[[Parameters, Matrix, Matrix, Matrix], Mapping[str, Matrix]]
"""(parameters, batch of features, labels without NaN, weight of each label) to the gradient of the mean loss."""

ROWS = 200_000
"""Rows that a gradient fit sees at most; the figures of small networks stand still long before."""
STEPS = 6_000
"""Batches that a fit takes at most, whatever the epochs."""
BETA, BETA_SQUARE, TINY = 0.9, 0.99, 1e-8
AVERAGED = 0.3
"""Share of the steps, at the end, whose weights are averaged (Polyak): flattens the noise of the batches."""
SPREAD = 0.1
"""What every feature is divided by. Columns are not standardised one by one: that would blow up the last
dimensions of an embedding, which are noise (measured: worse for `mf`, `irt` and `mlp`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Mean and spread of the columns, and how to fold them into a first layer."""

    mean: Matrix
    spread: Matrix

    def fold(self, weights: Matrix, bias: Matrix) -> tuple[Matrix, Matrix]:
        """The layer on raw features that does what `weights` (d, h), `bias` (h,) do on scaled ones."""
        raw = (weights / self.spread[:, None]).astype(np.float32)
        return raw, (bias - self.mean @ raw).astype(np.float32)


def scaling(x: Matrix) -> Scaling:
    """Centres and scales columns; those that never vary get weight 0, whatever they hold later."""
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    constant = spread < 1e-6
    spread = np.where(constant, np.inf, SPREAD)
    return Scaling(mean=mean.astype(np.float32), spread=spread.astype(np.float32))


def bounded(table: Table, seed: int, rows: int = ROWS) -> Table:
    """The table, or `rows` of it."""
    return table if len(table) <= rows else table.take(subsample(table.ids, rows, seed=seed))


def base_rates(table: Table) -> Matrix:
    """Mean score per model (M,), shrunk to the mean over all models where labels are few."""
    return base_rates_of(table.scores, table.weights)


def base_rates_of(scores: Matrix, row_weights: Matrix, *, strength: float = 2.0) -> Matrix:
    """Mean score per column (M,), NaN left out, shrunk to the mean over all columns by `strength` labels."""
    seen = np.isfinite(scores)
    weights = np.where(seen, row_weights[:, None], 0.0)
    total = (np.where(seen, scores, 0.0) * weights).sum(axis=0)
    mass = weights.sum(axis=0)
    overall = (total.sum() + 0.5) / (mass.sum() + 1.0)
    rates = (total + strength * overall) / (mass + strength)
    return np.asarray(np.clip(rates, 0.01, 0.99), np.float32)


def descend(
    table: Table,
    start: Parameters,
    gradient: Gradient,
    scale: Scaling,
    *,
    seed: int,
    epochs: int,
    batch: int = 256,
    rate: float = 3e-3,
    decay: Mapping[str, float],
) -> Parameters:
    """The parameters after some epochs, averaged over the last steps.

    Args:
        table: rows to fit on; missing scores have no weight.
        start: parameters by name; not changed.
        gradient: gradient of the loss per label.
        scale: how a batch's features are scaled.
        seed: order of the rows.
        epochs: passes over the rows, bounded by `STEPS` batches.
        batch: rows per step.
        rate: first step size; falls to a tenth as a cosine.
        decay: L2 pull per unit of `rate`, by parameter; none for those that are not named.
    """
    rng = np.random.default_rng(seed)
    rows = len(table)
    batch = max(8, min(batch, rows // 4))
    steps = max(60, min(STEPS, epochs * -(-rows // batch)))
    now = {name: value.astype(np.float32) for name, value in start.items()}
    first = {name: np.zeros_like(value) for name, value in now.items()}
    second = {name: np.zeros_like(value) for name, value in now.items()}
    mean = {name: np.zeros(value.shape, np.float64) for name, value in now.items()}
    kept_from = int(steps * (1.0 - AVERAGED))
    for step in range(steps):
        if step * batch % rows < batch or step == 0:
            order = rng.permutation(rows)
        at = (step * batch) % rows
        picked = order[at : at + batch]
        slopes = gradient(now, *_batch(table, picked, scale))
        pace = rate * (0.1 + 0.45 * (1.0 + np.cos(np.pi * step / steps)))
        for name, slope in slopes.items():
            first[name] += (1.0 - BETA) * (slope - first[name])
            second[name] += (1.0 - BETA_SQUARE) * (slope * slope - second[name])
            moved = first[name] / (1.0 - BETA ** (step + 1))
            size = np.sqrt(second[name] / (1.0 - BETA_SQUARE ** (step + 1))) + TINY
            now[name] -= np.float32(pace) * (moved / size + decay.get(name, 0.0) * now[name])
        if step >= kept_from:
            for name, value in now.items():
                mean[name] += value
    return {name: (total / (steps - kept_from)).astype(np.float32) for name, total in mean.items()}


def _batch(
    table: Table, rows: npt.NDArray[np.int64], scale: Scaling
) -> tuple[Matrix, Matrix, Matrix]:
    x = (table.features[rows] - scale.mean) / scale.spread
    y = table.scores[rows]
    seen = np.isfinite(y)
    weight = np.where(seen, table.weights[rows][:, None], np.float32(0.0))
    weight /= (
        max(float(weight.sum()), 1e-9) / y.shape[1]
    )  # the mean row has a loss of its models together
    return x, np.where(seen, y, np.float32(0.0)), weight
