"""One evaluation: strategies beside the baselines, with paired intervals, slices and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

import numpy as np

from routeiq.training.errors import DataError

from .baselines import ladder_sweep, litellm_complexity, oracle_sweep, random_sweep
from .bootstrap import RESAMPLES, Means, intervals
from .curves import Sweep, candidates, choose, lambdas, router_sweep, singles_sweep
from .metrics import (
    Anchors,
    Calibration,
    ModelFigures,
    calibration,
    curve_metrics,
    model_figures,
    prediction_metrics,
)
from .outcomes import Array, Outcomes
from .pairs import need, pair_metrics, pair_sweep
from .slices import Slice, slices

Kind = Literal["strategy", "baseline", "bound"]
SINGLES, ORACLE, RANDOM, LENGTH, LITELLM, DIFFICULTY, PRIOR = (
    "mix of singles",
    "oracle",
    "random",
    "prompt length",
    "LiteLLM complexity",
    "difficulty alone",
    "prior",
)
SHARE_POINTS = 40
"""Operating points at which the shares of the models are kept for the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an evaluation is made.

    `reference` is the model to compare with (by default the best single one on these very rows, which flatters
    it), `pair` (strong, weak) asks for APGR and CPT; with two models it is asked for anyway.
    """

    reference: str | None = None
    pair: tuple[str, str] | None = None
    resamples: int = RESAMPLES
    seed: int = 0
    litellm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the report: figures with 95 % intervals, and the curve (mean USD per request, mean quality)."""

    name: str
    kind: Kind
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    cost: Array = field(repr=False)
    quality: Array = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How often each model is chosen (points, models) at these mean costs in USD."""

    cost: Array
    share: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole evaluation. `models`, `slices`, `reliability` and `shares` are by name of the strategy."""

    rows: int
    names: tuple[str, ...]
    reference: str
    reference_given: bool
    priced: bool
    coverage: float
    pair: tuple[str, str] | None
    entries: tuple[Entry, ...]
    singles: tuple[ModelFigures, ...]
    models: dict[str, tuple[ModelFigures, ...]]
    slices: dict[str, tuple[Slice, ...]]
    reliability: dict[str, Calibration]
    shares: dict[str, Shares]
    settings: Settings
    notes: tuple[str, ...] = ()
    data_sha256: str = ""

    def entry(self, name: str) -> Entry:
        """The line with this name.

        Raises:
            KeyError: there is none.
        """
        for each in self.entries:
            if each.name == name:
                return each
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        """Plain values; figures that are not finite are null."""
        plain: dict[str, Any] = _plain(self)
        return plain


def evaluate(
    strategies: Mapping[str, Array],
    data: Outcomes,
    settings: Settings | None = None,
    *,
    prior: Array | None = None,
    data_sha256: str = "",
) -> Report:
    """Evaluate predictions against measured outcomes.

    Args:
        strategies: predicted quality (n, M) by name, NaN where unknown; rows and models as in `data`.
        data: the outcomes.
        settings: reference, pair, resamples and seed.
        prior: what the untrained `prior` predicts (n, M), for its baseline.
        data_sha256: kept in the report.

    Raises:
        DataError: the shapes do not fit, or a model that was named is not in the data.
    """
    settings = settings or Settings()
    for name, q in strategies.items():
        if q.shape != data.scores.shape:
            raise DataError(f"{name} predicts {q.shape}, the data has {data.scores.shape}.")
    singles = singles_sweep(data, settings.seed)
    reference = _reference(data, singles, settings)
    pair = _pair(data, settings)
    notes: list[str] = []
    scalars = _scalars(data, settings, notes)
    predicted = {**strategies, **({PRIOR: prior} if prior is not None else {})}
    sweeps = _sweeps(data, predicted, scalars, singles, reference, settings.seed)
    figures, spans = _figures(sweeps, data, singles, reference, settings)
    if pair is not None:
        _add_pairs(figures, spans, data, predicted, scalars, pair, settings)
    details = {name: model_figures(q, data) for name, q in strategies.items()}
    for name, q in strategies.items():
        figures[name] |= prediction_metrics(details[name], q, data)
    means = {name: each.mean() for name, each in sweeps.items()}
    return Report(
        rows=len(data),
        names=data.models,
        reference=data.models[reference],
        reference_given=settings.reference is not None,
        priced=data.priced,
        coverage=float(data.known.mean()),
        pair=None if pair is None else (data.models[pair[0]], data.models[pair[1]]),
        entries=tuple(
            Entry(
                name=name,
                kind=_kind(name, strategies),
                metrics=figures[name],
                intervals=spans.get(name, {}),
                quality=means[name][0],
                cost=means[name][1],
            )
            for name in sweeps
        ),
        singles=model_figures(np.where(data.known, np.nanmean(data.scores), np.nan), data),
        models=details,
        slices={name: slices(q, data, reference, pair=pair) for name, q in strategies.items()},
        reliability={name: calibration(q, data.scores) for name, q in strategies.items()},
        shares={name: _shares(q, data) for name, q in strategies.items()},
        settings=settings,
        notes=tuple(notes),
        data_sha256=data_sha256,
    )


def _kind(name: str, strategies: Mapping[str, Array]) -> Kind:
    if name in strategies:
        return "strategy"
    return "bound" if name == ORACLE else "baseline"


def _column(data: Outcomes, name: str) -> int:
    if name not in data.models:
        raise DataError(f"no model {name!r} in the data; it has {', '.join(data.models)}.")
    return data.models.index(name)


def _reference(data: Outcomes, singles: Sweep, settings: Settings) -> int:
    if settings.reference is not None:
        return _column(data, settings.reference)
    quality, _ = singles.mean()
    return int(np.argmax(np.where(data.known.any(axis=0), quality, -np.inf)))


def _pair(data: Outcomes, settings: Settings) -> tuple[int, int] | None:
    if settings.pair is not None:
        return _column(data, settings.pair[0]), _column(data, settings.pair[1])
    if len(data.models) != 2:
        return None
    quality, _ = singles_sweep(data).mean()
    return (0, 1) if quality[0] >= quality[1] else (1, 0)


def _scalars(data: Outcomes, settings: Settings, notes: list[str]) -> dict[str, Array]:
    """The baselines that know one number per prompt."""
    found: dict[str, Array] = {}
    if data.difficulty is not None:
        found[DIFFICULTY] = data.difficulty
    if data.lengths is None or data.texts is None:
        notes.append("no texts: prompt length and LiteLLM's router are left out.")
        return found
    found[LENGTH] = data.lengths
    scores = litellm_complexity(data.texts) if settings.litellm else None
    if scores is None:
        notes.append("LiteLLM's complexity router is left out: not installed, or not wanted.")
        return found
    found[LITELLM] = scores
    return found


def _sweeps(
    data: Outcomes,
    predicted: Mapping[str, Array],
    scalars: Mapping[str, Array],
    singles: Sweep,
    reference: int,
    seed: int,
) -> dict[str, Sweep]:
    found = {name: router_sweep(q, data, seed=seed) for name, q in predicted.items()}
    found |= {name: ladder_sweep(value, data, seed) for name, value in scalars.items()}
    found[RANDOM] = random_sweep(data, seed)
    first = np.argsort(np.arange(len(data.models)) != reference, kind="stable")
    found[SINGLES] = Sweep(
        quality=singles.quality[:, first],
        cost=singles.cost[:, first],
        count=singles.count[:, first],
    )
    found[ORACLE] = oracle_sweep(data, seed)
    return found


def _figures(
    sweeps: Mapping[str, Sweep], data: Outcomes, singles: Sweep, reference: int, settings: Settings
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, tuple[float, float]]]]:
    _, cost = singles.mean()
    measured = np.flatnonzero(data.known.any(axis=0))
    order = [reference, *(m for m in range(len(data.models)) if m != reference)]
    cheapest = order.index(int(measured[np.argmin(cost[measured])]))

    def figures(means: Means) -> dict[str, float]:
        quality, money = means[SINGLES]
        at = Anchors(
            quality=float(quality[0]),
            cost=float(money[0]),
            cheapest=float(money[cheapest]),
            oracle=float(means[ORACLE][0][0]),
        )
        found: dict[str, dict[str, float]] = {}
        for name, (height, width) in means.items():
            found[name] = curve_metrics(height, width, at, priced=data.priced)
        for each in found.values():
            if data.priced:
                each["aiq_gain"] = each["aiq"] - found[SINGLES]["aiq"]
        return {
            f"{name}\n{key}": value for name, all_ in found.items() for key, value in all_.items()
        }

    point = figures({name: each.mean() for name, each in sweeps.items()})
    spans = intervals(sweeps, figures, resamples=settings.resamples, seed=settings.seed)
    return _nested(point), _nested(spans)


def _nested(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        name, _, metric = key.partition("\n")
        found.setdefault(name, {})[metric] = value
    return found


def _add_pairs(
    figures: dict[str, dict[str, float]],
    spans: dict[str, dict[str, tuple[float, float]]],
    data: Outcomes,
    predicted: Mapping[str, Array],
    scalars: Mapping[str, Array],
    pair: tuple[int, int],
    settings: Settings,
) -> None:
    wanted = {name: need(q, *pair) for name, q in predicted.items()}
    wanted |= dict(scalars)
    wanted[ORACLE] = need(data.scores, *pair)
    sweeps = {
        name: pair_sweep(np.where(np.isfinite(w), w, np.nanmin(w)), data, *pair, seed=settings.seed)
        for name, w in wanted.items()
    }

    def all_of(means: Means) -> dict[str, float]:
        return {
            f"{name}\n{key}": value
            for name, (quality, calls) in means.items()
            for key, value in pair_metrics(quality, calls).items()
        }

    point = _nested(all_of({name: each.mean() for name, each in sweeps.items()}))
    found = _nested(intervals(sweeps, all_of, resamples=settings.resamples, seed=settings.seed))
    for name, values in point.items():
        figures[name] |= values
        spans.setdefault(name, {}).update(found.get(name, {}))
    figures[RANDOM] |= {"apgr": 0.5, "cpt_20": 0.2, "cpt_50": 0.5, "cpt_80": 0.8}  # its expectation


def _shares(q: Array, data: Outcomes) -> Shares:
    usable = candidates(q, data)
    cost, share = [], []
    for weight in lambdas(usable, data.predicted, SHARE_POINTS):
        chosen = choose(usable, data.predicted, float(weight))
        cost.append(float(data.costs[np.arange(len(data)), chosen].mean()))
        share.append(np.bincount(chosen, minlength=len(data.models)) / len(data))
    return Shares(cost=np.array(cost), share=np.array(share))


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
