"""The same figures per task: an average can hide a task on which the router does harm."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from .baselines import oracle_sweep
from .curves import candidates, choose, router_sweep, singles_sweep
from .metrics import Anchors, calibration, curve_metrics
from .outcomes import Array, Outcomes
from .pairs import need, pair_metrics, pair_sweep

LEAST_ROWS = 20
"""Rows below which a task is not shown on its own: it would be noise."""
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One task: its figures, and the paired 95 % interval (normal approximation) of the gain."""

    task: str
    rows: int
    metrics: dict[str, float]
    gain_interval: tuple[float, float]


def anchors(data: Outcomes, reference: int) -> Anchors:
    """What curves over these rows are measured against."""
    quality, cost = singles_sweep(data).mean()
    measured = data.known.any(axis=0)
    best, _ = oracle_sweep(data).mean()
    return Anchors(
        quality=float(quality[reference]),
        cost=float(cost[reference]),
        cheapest=float(cost[measured].min()),
        oracle=float(best[0]),
    )


def slices(
    q: Array, data: Outcomes, reference: int, *, pair: tuple[int, int] | None = None, most: int = 60
) -> tuple[Slice, ...]:
    """Figures per task of `LEAST_ROWS` or more rows, largest first, at most `most`; none for a single task."""
    tasks = np.array(data.tasks)
    names, counts = np.unique(tasks, return_counts=True)
    if len(names) < 2:
        return ()
    order = np.argsort(-counts, kind="stable")
    wanted = [names[i] for i in order if counts[i] >= LEAST_ROWS][:most]
    return tuple(_slice(str(name), q, data, tasks == name, reference, pair) for name in wanted)


def _slice(
    task: str,
    q: Array,
    data: Outcomes,
    rows: np.ndarray[tuple[int], np.dtype[np.bool_]],
    reference: int,
    pair: tuple[int, int] | None,
) -> Slice:
    part, predicted = data.take(rows), q[rows]
    quality, cost = router_sweep(predicted, part).mean()
    found = curve_metrics(quality, cost, anchors(part, reference), priced=part.priced)
    found["reference"] = found["accuracy"] - found["gain"]
    found["ece"] = calibration(predicted, part.scores).error
    if pair is not None:
        found |= pair_metrics(*pair_sweep(need(predicted, *pair), part, *pair).mean())
    chosen = choose(candidates(predicted, part), part.predicted, 0.0)
    beside = part.scores[:, reference]
    known = np.isfinite(beside)
    differences = (part.scores[np.arange(len(part)), chosen] - beside)[known]
    return Slice(task=task, rows=len(part), metrics=found, gain_interval=_interval(differences))


def _interval(differences: Array) -> tuple[float, float]:
    if len(differences) < 2:
        return float("nan"), float("nan")
    half = NORMAL_95 * float(differences.std(ddof=1)) / sqrt(len(differences))
    middle = float(differences.mean())
    return middle - half, middle + half
