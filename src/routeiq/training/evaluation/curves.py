"""Cost-quality curves: what every operating point of a router would have scored and cost.

A router's operating points are the choices `argmax(q - lambda * c)` with predicted quality q and predicted cost
c, for lambda from 0 (quality at any price) to infinity (the cheapest model). The curve between two points is
what a mix of the two gives, so a curve is its upper hull, and it begins at no answer for no money: a router that
cannot go below some cost gets no credit for what lies there (the convention of RouterBench, arXiv 2403.12031).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .outcomes import Array, Outcomes

POINTS = 200
"""Operating points of a curve: quantiles of the exact breakpoints, so that each moves as many choices."""
SAMPLED_ROWS = 2_000
"""Rows whose breakpoints are looked at to place the points."""
TIE = 1e-9
"""Weight of a difference in relative cost against one in quality at lambda 0: equals go to the cheaper."""
ROUNDING = 1e-9
"""Qualities that differ by less are the same: sums in another order."""
UNITS = 20_000
"""Most units that are resampled; more rows than that are put into so many random groups."""

Choice = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Sums per unit (a row, or a group of rows) and operating point.

    `quality` and `cost` are (units, points); `count` (units, points) or (units, 1): rows that were answered.
    """

    quality: Array
    cost: Array
    count: Array

    def mean(self) -> tuple[Array, Array]:
        """Mean quality and mean cost of every point, over all units."""
        count = np.maximum(self.count.sum(axis=0), 1.0)
        return self.quality.sum(axis=0) / count, self.cost.sum(axis=0) / count


def lambdas(q: Array, c: Array, points: int = POINTS) -> Array:
    """Ascending cost weights (quality per USD) at which choices change: 0, quantiles of the breakpoints, beyond.

    Args:
        q: predicted quality (n, M), NaN for no candidate.
        c: predicted cost (n, M) in USD.
        points: how many, at most.
    """
    step = max(1, len(q) // SAMPLED_ROWS)
    q, c = q[::step], c[::step]
    a, b = np.triu_indices(q.shape[1], k=1)
    rise, run = q[:, a] - q[:, b], c[:, a] - c[:, b]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (rise / run).ravel()
    slopes = slopes[np.isfinite(slopes) & (slopes > 0.0)]
    if not len(slopes):
        return np.zeros(1)
    inner = np.unique(np.quantile(slopes, np.linspace(0.0, 1.0, max(2, points - 2))))
    return np.concatenate(([0.0], inner, [inner[-1] * 10.0 + 1.0]))


def choose(q: Array, c: Array, weight: float) -> Choice:
    """The best model per row under `q - weight * c`; ties go to the cheaper, then to the first."""
    scale = float(np.max(c)) if c.size else 0.0
    tie = TIE / scale if scale > 0.0 else 0.0
    utility = np.where(np.isfinite(q), q - (weight + tie) * c, -np.inf)
    chosen: Choice = utility.argmax(axis=1)
    return chosen


def candidates(q: Array, data: Outcomes) -> Array:
    """Predictions with NaN where the outcome is unknown: only measured models can be chosen, and so judged.

    A measured model without a prediction gets the row's lowest, so that a row never runs out of candidates.
    """
    known = np.where(np.isfinite(q), q, np.inf)
    lowest = known.min(axis=1, initial=1.0, keepdims=True)
    filled = np.where(np.isfinite(q), q, lowest)
    return np.where(data.known, filled, np.nan)


def totals(place: npt.NDArray[np.intp], size: int, values: npt.NDArray[Any] | None = None) -> Array:
    """Sums of `values` per place, counts without them; as floats."""
    return np.bincount(place, values, size).astype(np.float64)


def units(rows: int, seed: int = 0) -> tuple[npt.NDArray[np.intp], int]:
    """The unit of each row, and how many there are: rows themselves, or random groups of them."""
    if rows <= UNITS:
        return np.arange(rows), rows
    return np.random.default_rng(seed).integers(0, UNITS, rows), UNITS


def sweep(data: Outcomes, choices: Iterator[Choice] | list[Choice], seed: int = 0) -> Sweep:
    """What the choices scored and cost; one array of column indexes per operating point."""
    rows = np.arange(len(data))
    unit, total = units(len(data), seed)
    quality: list[Array] = []
    cost: list[Array] = []
    for choice in choices:
        quality.append(totals(unit, total, data.scores[rows, choice]))
        cost.append(totals(unit, total, data.costs[rows, choice]))
    count = totals(unit, total)
    return Sweep(
        quality=np.stack(quality, axis=1), cost=np.stack(cost, axis=1), count=count[:, None]
    )


def router_sweep(q: Array, data: Outcomes, *, points: int = POINTS, seed: int = 0) -> Sweep:
    """The cost-quality sweep of predicted qualities (n, M); its first point is lambda 0."""
    usable = candidates(q, data)
    weights = lambdas(usable, data.predicted, points)
    return sweep(data, (choose(usable, data.predicted, float(w)) for w in weights), seed)


def singles_sweep(data: Outcomes, seed: int = 0) -> Sweep:
    """Every model alone, one point each, over the rows where it was measured."""
    unit, total = units(len(data), seed)
    known = data.known
    columns = range(len(data.models))
    scores = np.where(known, data.scores, 0.0)
    costs = np.where(known, data.costs, 0.0)
    stacked = [
        np.stack([totals(unit, total, part[:, m]) for m in columns], axis=1)
        for part in (scores, costs, known.astype(np.float64))
    ]
    return Sweep(quality=stacked[0], cost=stacked[1], count=stacked[2])


def hull(cost: Array, quality: Array) -> tuple[Array, Array]:
    """Vertices of the non-decreasing upper hull of the points and (0, 0), by ascending cost."""
    xs: list[float] = [0.0]
    ys: list[float] = [0.0]
    order = np.lexsort((-quality, cost))
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if y <= ys[-1]:
            continue
        while len(xs) > 1 and (y - ys[-1]) * (xs[-1] - xs[-2]) >= (ys[-1] - ys[-2]) * (x - xs[-1]):
            xs.pop()
            ys.pop()
        if x <= xs[-1]:
            ys[-1] = y
            continue
        xs.append(x)
        ys.append(y)
    return np.array(xs), np.array(ys)


def area(x: Array, y: Array, low: float, high: float) -> float:
    """Mean height of a hull between two costs, level past its end; AIQ where these are two singles' costs."""
    if not high > low:
        return float(np.interp(high, x, y))
    inside = x[(x > low) & (x < high)]
    at = np.concatenate(([low], inside, [high]))
    heights = np.interp(at, x, y)
    return float((np.diff(at) * (heights[1:] + heights[:-1])).sum() / 2.0 / (high - low))


def quality_at(x: Array, y: Array, cost: float) -> float:
    """Best quality on a hull at no more than `cost`."""
    return float(np.interp(cost, x, y))


def cost_at(x: Array, y: Array, quality: float) -> float:
    """Least cost on a hull at which `quality` is reached; NaN where it never is."""
    if quality > y[-1] + ROUNDING:
        return float("nan")
    return float(np.interp(quality, y, x))
