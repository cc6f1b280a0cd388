"""Figures of merit: of a cost-quality curve, and of predicted probabilities. Pure functions; NaN means missing.

Names and definitions follow the field: AIQ from RouterBench (arXiv 2403.12031), PerfGain, CostSave and
Gap@Oracle from LLMRouterBench (arXiv 2601.07206, relative to the best single model and to the oracle), the arena
score from RouterArena (arXiv 2510.00202).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, nan

import numpy as np
import numpy.typing as npt

from .curves import area, candidates, choose, cost_at, hull, quality_at, totals
from .outcomes import Array, Outcomes

BINS = 10
"""Equal-width bins of the calibration error."""
POSITIVE = 0.5
"""A graded score above this counts as a good answer where only good and bad are known (AUC)."""
ARENA_BETA, ARENA_DEAREST, ARENA_CHEAPEST = 0.1, 200.0, 0.0044
"""RouterArena's weight of cost, and its range of USD per 1,000 requests."""
COST_SHARES = (0.10, 0.25, 1.00)
"""Shares of the best single model's cost at which quality is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What curves are measured against: the reference model, the cheapest one (USD per request), the oracle."""

    quality: float
    cost: float
    cheapest: float
    oracle: float


def curve_metrics(
    quality: Array, cost: Array, at: Anchors, *, priced: bool = True
) -> dict[str, float]:
    """Figures of one curve whose first point maximises quality.

    Args:
        quality: mean quality per operating point.
        cost: mean USD per request per operating point.
        at: the anchors, from the same rows.
        priced: without costs, only what needs none.

    Returns:
        `accuracy`, `gain` (accuracy minus the reference's), `oracle_gap` ((oracle - accuracy) / oracle) and,
        with costs, `cost_usd_per_1k` (of the first point), `aiq`, `saved` (share of the reference's cost saved
        at its quality, NaN where that is never reached), `perf_gain` (best accuracy on the curve over the
        reference's, minus 1), `at_10`, `at_25`, `at_100` (best quality at these percentages of the reference's
        cost), `arena`.
    """
    first = float(quality[0])
    found = {
        "accuracy": first,
        "gain": first - at.quality,
        "oracle_gap": (at.oracle - first) / at.oracle if at.oracle > 0.0 else nan,
    }
    if not priced:
        return found
    x, y = hull(cost, quality)
    reached = cost_at(x, y, at.quality)
    found["cost_usd_per_1k"] = 1000.0 * float(cost[0])
    found["aiq"] = area(x, y, at.cheapest, at.cost)
    found["saved"] = 1.0 - reached / at.cost if at.cost > 0.0 else nan
    found["perf_gain"] = float(quality.max()) / at.quality - 1.0 if at.quality > 0.0 else nan
    for share in COST_SHARES:
        found[f"at_{share:.0%}".rstrip("%")] = quality_at(x, y, share * at.cost)
    found["arena"] = arena_score(first, 1000.0 * float(cost[0]))
    return found


def arena_score(accuracy: float, usd_per_1k: float) -> float:
    """RouterArena's score: a harmonic-type mean of accuracy and of the logarithm of the cost. 0 to 1.

    Costs beyond the range that RouterArena assumes count as its ends.
    """
    cost = min(max(usd_per_1k, ARENA_CHEAPEST), ARENA_DEAREST)
    thrift = (log2(ARENA_DEAREST) - log2(cost)) / (log2(ARENA_DEAREST) - log2(ARENA_CHEAPEST))
    below = ARENA_BETA * accuracy + thrift
    return (1.0 + ARENA_BETA) * accuracy * thrift / below if below > 0.0 else 0.0


def auc(predicted: Array, scores: Array) -> float:
    """Area under the ROC curve: how often a good answer was predicted higher than a bad one, ties half.

    NaN where all are good or all bad. A graded score is good above `POSITIVE`.
    """
    known = np.isfinite(predicted) & np.isfinite(scores)
    good = scores[known] > POSITIVE
    positives = int(good.sum())
    negatives = len(good) - positives
    if positives == 0 or negatives == 0:
        return nan
    _, place, count = np.unique(predicted[known], return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2.0)[place]  # mean rank of equals, from 1
    return float((ranks[good].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def brier(predicted: Array, scores: Array) -> float:
    """Mean squared difference of prediction and score; NaN without a known pair."""
    known = np.isfinite(predicted) & np.isfinite(scores)
    return float(((predicted[known] - scores[known]) ** 2).mean()) if known.any() else nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Bins that hold any prediction: their mean prediction, mean score and number of predictions."""

    predicted: Array
    observed: Array
    count: Array

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of prediction and score, weighted by count."""
        total = float(self.count.sum())
        if total == 0.0:
            return nan
        return float((self.count * np.abs(self.predicted - self.observed)).sum() / total)


def calibration(predicted: Array, scores: Array, bins: int = BINS) -> Calibration:
    """Reliability of predictions in equal-width bins over [0, 1] (Guo et al. 2017), without NaN pairs."""
    known = np.isfinite(predicted) & np.isfinite(scores)
    p, s = predicted[known], scores[known]
    place = np.clip((p * bins).astype(np.intp), 0, bins - 1)
    count = totals(place, bins)
    used = count > 0
    return Calibration(
        predicted=totals(place, bins, p)[used] / count[used],
        observed=totals(place, bins, s)[used] / count[used],
        count=count[used],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model: measured mean score and cost, how well it was predicted, how often it was chosen at lambda 0."""

    model: str
    rows: int
    accuracy: float
    cost_usd_per_1k: float
    auc: float
    ece: float
    brier: float
    share: float


def model_figures(q: npt.NDArray[np.float64], data: Outcomes) -> tuple[ModelFigures, ...]:
    """`ModelFigures` of each model for predictions q (n, M)."""
    chosen = choose(candidates(q, data), data.predicted, 0.0)
    shares = np.bincount(chosen, minlength=len(data.models)) / len(data)
    known = data.known
    figures = []
    for m, name in enumerate(data.models):
        rows = known[:, m]
        p, s = q[:, m], data.scores[:, m]
        figures.append(
            ModelFigures(
                model=name,
                rows=int(rows.sum()),
                accuracy=float(s[rows].mean()) if rows.any() else nan,
                cost_usd_per_1k=1000.0 * float(data.costs[rows, m].mean()) if rows.any() else nan,
                auc=auc(p, s),
                ece=calibration(p, s).error,
                brier=brier(p, s),
                share=float(shares[m]),
            )
        )
    return tuple(figures)


def prediction_metrics(
    figures: tuple[ModelFigures, ...], q: Array, data: Outcomes
) -> dict[str, float]:
    """`auc`, `ece`, `brier` as means over models, `ece_pooled` over all predictions together.

    `regret` is the mean quality lost at lambda 0 against the best measured model of each row.
    """
    chosen = choose(candidates(q, data), data.predicted, 0.0)
    got = data.scores[np.arange(len(data)), chosen]
    return {
        "auc": _mean([each.auc for each in figures]),
        "ece": _mean([each.ece for each in figures]),
        "ece_pooled": calibration(q, data.scores).error,
        "brier": _mean([each.brier for each in figures]),
        "regret": float((np.nanmax(data.scores, axis=1) - got).mean()),
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else nan
