"""Trains an estimator by its kind's name: chooses settings, fits, measures on unseen rows, fits on all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.strategies.estimator import Estimator
from routeiq.training.errors import DataError
from routeiq.training.evaluation.curves import router_sweep
from routeiq.training.evaluation.metrics import curve_metrics, model_figures, prediction_metrics
from routeiq.training.evaluation.outcomes import Outcomes, from_table
from routeiq.training.evaluation.slices import anchors
from routeiq.training.splits import uniform
from routeiq.training.table import Table

from .folds import fold_of
from .search import Grid, search
from .transfer import with_models

Progress = Callable[[str], None]

KINDS = (
    "hybrid",
    "knn",
    "cluster",
    "svm",
    "logistic",
    "mlp",
    "mf",
    "irt",
    "elo",
    "adaptive",
    "linucb",
    "threshold",
)
"""What can be trained: modules here, each with a `fit_<kind>`. `threshold` is a hybrid of two models."""
SAME = {"threshold": "hybrid"}
FROM_PREFERENCES = ("elo",)
"""Kinds that learn from rows without scores too."""
GRIDS: Mapping[str, Grid] = {
    "mlp": {"decay": (2.0, 0.5, 5.0), "epochs": (20, 10), "width": (24, 48)},
    "mf": {"decay": (2.0, 0.5, 6.0), "epochs": (40, 80), "rank": (12, 4)},
    "irt": {"decay": (5.0, 1.0, 10.0), "epochs": (60, 30), "rank": (8, 3)},
}
"""What is searched; the other kinds choose their settings by cross-validation themselves."""
TRIALS = 6
HELD_OUT = 5
"""One of so many folds is held out to measure."""
FEWEST_MEASURED = 50
"""Rows below which nothing is held out: ten rows measure nothing, and every label is needed."""
LEAST_LENGTH = 1.0
COMPARABLE = 1.5
"""Scores per row below which no curve is drawn: a log of chosen models says nothing of those not chosen."""
MOST_ROWS = 250_000
"""Rows that are looked at: more than any kind learns from, and what keeps a million rows within 4 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What training gives: the estimator (fitted on all rows), held-out metrics, settings for the artifact.

    `settings` has `training` (what was chosen), `labels` per model, `output_tokens` per model (expected; where
    counted) and `cost_model` per model: `usd` (mean per request), and where lengths are known
    `usd_per_character` and `usd_base`, a line in the prompt's length.
    """

    estimator: Estimator
    metrics: dict[str, Any]
    settings: dict[str, Any]


def train(
    kind: str,
    table: Table,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train one kind of estimator.

    Models without any score are left out: in serving they get the mean of their price tier. Memory is bounded by
    every kind's own cap on rows; the table itself is the largest part.

    Args:
        kind: one of `KINDS`.
        table: rows; those without a score are left out, except for kinds that learn from preferences.
        seed: of everything random.
        progress: told what is done.
        settings: what `fit_<kind>` takes, fixed instead of searched; and `search` (trials, default 6) and
            `measure` (whether rows are held out for metrics, default yes).

    Raises:
        DataError: no such kind, or no row to learn from.
        MissingExtra: the kind needs a package that is not installed.
    """
    told = progress or (lambda _: None)
    fit = _fit_function(kind)
    given = dict(settings or {})
    trials, measure = int(given.pop("search", TRIALS)), bool(given.pop("measure", True))
    table = learnable(sampled(table, seed=seed), preferences=kind in FROM_PREFERENCES)
    chosen, tried = _choose(kind, fit, table, given, trials=trials, seed=seed, progress=told)
    metrics: dict[str, Any] = {}
    if measure and len(table) >= FEWEST_MEASURED:
        held = fold_of([str(group) for group in table.groups.tolist()], HELD_OUT, seed=seed) == 0
        told(f"{kind}: fitting on {int((~held).sum())} rows to measure on {int(held.sum())}")
        metrics = _measure(fit(table.take(~held), seed=seed, **chosen), table.take(held))
    told(f"{kind}: fitting on all {len(table)} rows")
    estimator = fit(table, seed=seed, **chosen)
    return Fitted(
        estimator=estimator,
        metrics=metrics,
        settings={
            "training": {**chosen, "trials": tried},
            "labels": _by_model(table, np.isfinite(table.scores).sum(axis=0)),
            "output_tokens": _means(table, table.output_tokens),
            "cost_model": cost_model(table),
        },
    )


def _fit_function(kind: str) -> Callable[..., Estimator]:
    if kind not in KINDS:
        raise DataError(
            f"there is no strategy {kind!r} that is trained. Choose one of {', '.join(KINDS)}."
        )
    module = SAME.get(kind, kind)
    found: Callable[..., Estimator] = getattr(
        import_module(f"{__package__}.{module}"), f"fit_{module}"
    )
    return found


def _choose(
    kind: str,
    fit: Callable[..., Estimator],
    table: Table,
    given: dict[str, Any],
    *,
    trials: int,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], int]:
    """Settings: the given ones, the others searched. And how many were tried."""
    grid = {name: values for name, values in GRIDS.get(kind, {}).items() if name not in given}
    if not grid:
        return given, 0
    fixed = {name: (value,) for name, value in given.items()}
    found = search(fit, table, {**fixed, **grid}, trials=trials, seed=seed, progress=progress)
    return found[0].settings, len(found)


def sampled(table: Table, *, most: int = MOST_ROWS, seed: int = 0) -> Table:
    """At most about `most` rows, drawn by the hash of their text: equal texts stay together."""
    if len(table) <= most:
        return table
    return table.take(uniform(table.groups, seed=seed + 1) < most / len(table))


def learnable(table: Table, *, preferences: bool = False) -> Table:
    """The table without models that nobody scored and without rows that say nothing.

    Raises:
        DataError: nothing is left.
    """
    seen = np.isfinite(table.scores)
    if preferences and len(table.preferences):
        return table
    if not seen.any():
        raise DataError("no row has a score: only `elo` learns from preferences alone. Add scores.")
    columns = seen.any(axis=0)
    if not columns.all():
        table = with_models(table, np.flatnonzero(columns))
    rows = np.asarray(seen.any(axis=1))
    return table if rows.all() else table.take(rows)


def _measure(estimator: Estimator, table: Table) -> dict[str, Any]:
    """Figures on rows that the estimator never saw; see `routeiq.training.evaluation.metrics`."""
    if not np.isfinite(table.scores).any():
        return {}
    known = np.isfinite(table.scores)
    data = from_table(table)
    usable = known.any(axis=1)
    q = estimator.predict(table.features[usable]).astype(np.float64)
    if float(known[usable].sum(axis=1).mean()) < COMPARABLE:
        found = prediction_metrics(model_figures(q, data), q, data)
        numbers = {name: round(value, 5) for name, value in found.items() if np.isfinite(value)}
        return {"held_out_rows": len(data), **numbers}
    at = anchors(data, _best_single(data))
    found = curve_metrics(*router_sweep(q, data).mean(), at, priced=data.priced)
    found |= prediction_metrics(model_figures(q, data), q, data)
    found["best_single"] = at.quality
    numbers = {name: round(value, 5) for name, value in found.items() if np.isfinite(value)}
    return {"held_out_rows": len(data), **numbers}


def _best_single(data: Outcomes) -> int:
    counts = data.known.sum(axis=0)
    sums = np.where(data.known, data.scores, 0.0).sum(axis=0)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), -1.0)
    return int(np.argmax(means))


def cost_model(table: Table) -> dict[str, dict[str, float]]:
    """Expected USD per request of each model: the mean, and a line in the prompt's length where texts are kept."""
    lengths = None
    if table.texts is not None:
        lengths = np.array([len(text) for text in table.texts], dtype=np.float64)
    found = {}
    for index, model in enumerate(table.models):
        seen = np.isfinite(table.costs[:, index])
        if not seen.any():
            continue
        usd = table.costs[seen, index].astype(np.float64)
        found[model] = {"usd": float(usd.mean())}
        if lengths is not None:
            size = lengths[seen] - lengths[seen].mean()
            slope = float(size @ usd) / max(float(size @ size), LEAST_LENGTH)
            slope = max(0.0, slope)
            found[model]["usd_per_character"] = slope
            found[model]["usd_base"] = max(0.0, float(usd.mean() - slope * lengths[seen].mean()))
    return found


def _means(table: Table, values: npt.NDArray[np.float32]) -> dict[str, float]:
    """Mean of each model's known values; models without any are not named."""
    counts = np.isfinite(values).sum(axis=0)
    sums = np.where(np.isfinite(values), values, 0.0).sum(axis=0, dtype=np.float64)
    return {
        model: round(float(sums[i] / counts[i]), 3)
        for i, model in enumerate(table.models)
        if counts[i]
    }


def _by_model(table: Table, values: npt.NDArray[Any]) -> dict[str, int]:
    return {model: int(value) for model, value in zip(table.models, values, strict=True)}
