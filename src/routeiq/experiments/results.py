"""From an experiment's counters to what an operator, and a guard, may conclude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from routeiq.types import JsonObject
from routeiq.values import value

from .definitions import Definition
from .exposure import LOW_BITS
from .mismatch import Split, split_of
from .running import epoch_of
from .schedule import Schedule
from .sequential import share_difference, share_sequence
from .statistics import (
    BEST_AT_BOUNDED,
    BEST_AT_SKEWED,
    MINIMUM,
    Interval,
    Moments,
    difference_sequence,
    mean_sequence,
    significant,
)

Metric = Literal["quality", "cost_usd", "latency_ms", "first_token_ms", "error_rate"]
_MEANS: Mapping[Metric, tuple[str, float]] = {
    "quality": ("quality", 1e-6),
    "cost_usd": ("cost", 1e-9),
    "latency_ms": ("latency", 1e-3),
    "first_token_ms": ("first_token", 1e-3),
}
METRICS: tuple[Metric, ...] = (*_MEANS, "error_rate")
_BEST_SCORE = 1_000_000
"""A quality of 1, as it is counted."""
_SUBJECT_NOTE = (
    "Intervals take requests as independent. Where few keys or users send most of the traffic, assign by session "
    "or request to rely on them."
)


@value
class Counts:
    """An experiment's counters, with names for what is in them."""

    fields: Mapping[str, int]

    def of(self, label: str, field: str) -> int:
        """One counter of one variant."""
        return self.fields.get(f"{label}:{field}", 0)

    def moments(self, label: str, metric: str) -> Moments:
        """What is counted of a metric."""
        high, low = self.of(label, f"{metric}_sq_hi"), self.of(label, f"{metric}_sq")
        return Moments(
            n=self.of(label, f"{metric}_n"),
            total=self.of(label, metric),
            squares=(high << LOW_BITS) + low,
        )

    def interval(self, label: str, metric: Metric, alpha: float) -> Interval | None:
        """Mean of a metric in a variant and its confidence sequence; `None` while there is too little."""
        if metric == "error_rate":
            return share_sequence(self.of(label, "errors"), self.of(label, "ended"), alpha)
        name, unit = _MEANS[metric]
        found = mean_sequence(self._bounded(label, name), alpha, _best_at(metric))
        return found and found.shifted(unit)

    def difference(self, label: str, control: str, metric: Metric, alpha: float) -> Interval | None:
        """The same of a variant less the control."""
        if metric == "error_rate":
            of = self.of
            return share_difference(
                of(label, "errors"),
                of(label, "ended"),
                of(control, "errors"),
                of(control, "ended"),
                alpha,
            )
        name, unit = _MEANS[metric]
        arm, other = self._bounded(label, name), self._bounded(control, name)
        found = difference_sequence(arm, other, alpha, _best_at(metric))
        return found and found.shifted(unit)

    def _bounded(self, label: str, name: str) -> Moments:
        found = self.moments(label, name)
        if name == "quality" and found.n >= MINIMUM:
            return found.with_bounds(0, _BEST_SCORE)
        return found

    def split(self, definition: Definition) -> Split:
        """How subjects were divided since weights last changed."""
        epoch = epoch_of(definition)
        variants = definition.experiment.variants
        return split_of(
            {name: self.of(name, f"units@{epoch}") for name in variants},
            {name: one.weight for name, one in variants.items()},
            self.fields.get(f"workers@{epoch}", 1) if _is_grouped(definition) else 1,
        )


def _best_at(metric: Metric) -> float:
    return BEST_AT_BOUNDED if metric == "quality" else BEST_AT_SKEWED


def _is_grouped(definition: Definition) -> bool:
    return definition.experiment.subject != ("request",)


def report(
    definition: Definition, fields: Mapping[str, int], now: float, confidence: float = 0.95
) -> JsonObject:
    """Everything about one experiment, as the admin API answers it."""
    experiment = definition.experiment
    found: JsonObject = {
        "experiment": definition.name,
        "state": Schedule(experiment).state(now),
        "mode": experiment.mode,
        "confidence": confidence,
    }
    counts = Counts(fields=fields)
    if experiment.mode == "shadow":
        return {**found, "variants": _shadow(definition, counts)}
    return {
        **found,
        "control": experiment.control,
        "variants": _variants(definition, counts, 1.0 - confidence),
        "split": split_json(counts.split(definition)),
        "guards": _guards(definition, counts),
        "notes": [_SUBJECT_NOTE] if _is_grouped(definition) else [],
    }


def _variants(definition: Definition, counts: Counts, alpha: float) -> JsonObject:
    experiment = definition.experiment
    control, weights = experiment.control, sum(v.weight for v in experiment.variants.values())
    # Requests of a stopped variant are its share of the split, although the control's way served them.
    drawn = {
        name: counts.of(name, "requests") + counts.of(f"{name}!", "requests")
        for name in experiment.variants
    }
    total = sum(drawn.values())
    return {
        name: {
            "requests": counts.of(name, "requests"),
            "requests_after_stop": counts.of(f"{name}!", "requests"),
            "share": drawn[name] / total if total else None,
            "configured_share": variant.weight / weights,
            "stopped": definition.stopped.get(name),
            "metrics": {metric: _metric(counts, name, metric, alpha) for metric in METRICS},
            "difference": None
            if name == control
            else {metric: _difference(counts, name, control, metric, alpha) for metric in METRICS},
        }
        for name, variant in experiment.variants.items()
    }


def _metric(counts: Counts, name: str, metric: Metric, alpha: float) -> JsonObject:
    interval = counts.interval(name, metric, alpha)
    if metric == "error_rate":
        n = counts.of(name, "ended")
        mean = counts.of(name, "errors") / n if n else None
    else:
        field, unit = _MEANS[metric]
        moments = counts.moments(name, field)
        n = moments.n
        mean = moments.mean * unit if n else None
    return {
        "n": n,
        "mean": mean,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def _difference(
    counts: Counts, name: str, control: str, metric: Metric, alpha: float
) -> JsonObject | None:
    found = counts.difference(name, control, metric, alpha)
    if found is None:
        return None
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "significant": significant(found),
    }


def split_json(split: Split) -> JsonObject:
    """How the admin API shows a split."""
    return {
        "draws": split.draws,
        "e_value": split.e_value,
        "p": split.p,
        "mismatch": split.mismatch,
        "deviation": split.deviation,
        "deviates": split.deviates,
        "minimum_draws": split.minimum,
    }


def _guards(definition: Definition, counts: Counts) -> list[JsonObject]:
    experiment = definition.experiment
    found: list[JsonObject] = []
    for guard in experiment.guards:
        for name in experiment.variants:
            if name != experiment.control:
                alpha = 1.0 - guard.confidence
                seen = counts.difference(name, experiment.control, guard.metric, alpha)
                found.append(
                    {
                        "variant": name,
                        "metric": guard.metric,
                        "margin": guard.margin,
                        "confidence": guard.confidence,
                        "low": None if seen is None else seen.low,
                        "high": None if seen is None else seen.high,
                        "stopped": name in definition.stopped,
                    }
                )
    return found


def _shadow(definition: Definition, counts: Counts) -> JsonObject:
    found: JsonObject = {}
    for name, variant in definition.experiment.variants.items():
        if not variant.changes:
            continue
        requests, errors = counts.of(name, "requests"), counts.of(name, "errors")
        decided = requests - errors
        cost, active = counts.moments(name, "cost"), counts.moments(name, "cost_active")
        found[name] = {
            "requests": requests,
            "errors": errors,
            "agreement": counts.of(name, "agree") / decided if decided else None,
            "predicted_cost_usd": cost.mean * 1e-9 if cost.n else None,
            "predicted_cost_usd_active": active.mean * 1e-9 if active.n else None,
        }
    return found
