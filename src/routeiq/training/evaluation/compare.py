"""Two or more strategies on the same rows: paired differences, so that noise common to both cancels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routeiq.training.errors import DataError

from .baselines import oracle_sweep
from .bootstrap import Means, intervals
from .curves import router_sweep, singles_sweep
from .metrics import Anchors, curve_metrics
from .outcomes import Array, Outcomes
from .report import ORACLE, SINGLES, Report, Settings, evaluate

COMPARED = ("accuracy", "aiq", "saved", "at_100", "at_25", "at_10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`name` minus `base` in one figure, with its paired 95 % interval. NaN where either has none."""

    name: str
    base: str
    metric: str
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero: the data tells the two apart."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The report with all strategies side by side, and the differences of each to the first."""

    report: Report
    differences: tuple[Difference, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = self.report.as_json()
        plain["differences"] = [
            {
                "name": each.name,
                "base": each.base,
                "metric": each.metric,
                "value": _known(each.value),
                "interval": [_known(each.low), _known(each.high)],
                "clear": each.clear,
            }
            for each in self.differences
        ]
        return plain


def compare(
    strategies: Mapping[str, Array],
    data: Outcomes,
    settings: Settings | None = None,
    *,
    prior: Array | None = None,
    data_sha256: str = "",
) -> Comparison:
    """Evaluate several strategies and say where they differ from the first. Arguments as in `report.evaluate`.

    Raises:
        DataError: fewer than two strategies, or see `evaluate`.
    """
    if len(strategies) < 2:
        raise DataError(f"a comparison needs two strategies or more, got {len(strategies)}.")
    settings = settings or Settings()
    report = evaluate(strategies, data, settings, prior=prior, data_sha256=data_sha256)
    sweeps = {name: router_sweep(q, data, seed=settings.seed) for name, q in strategies.items()}
    sweeps[SINGLES] = singles_sweep(data, settings.seed)
    sweeps[ORACLE] = oracle_sweep(data, settings.seed)
    reference = data.models.index(report.reference)
    base, *others = strategies

    def differences(means: Means) -> dict[str, float]:
        quality, cost = means[SINGLES]
        at = Anchors(
            quality=float(quality[reference]),
            cost=float(cost[reference]),
            cheapest=float(cost[data.known.any(axis=0)].min()),
            oracle=float(means[ORACLE][0][0]),
        )
        found = {name: curve_metrics(*means[name], at, priced=data.priced) for name in strategies}
        return {
            f"{name}\n{metric}": found[name][metric] - found[base][metric]
            for name in others
            for metric in COMPARED
            if metric in found[base]
        }

    point = differences({name: each.mean() for name, each in sweeps.items()})
    spans = intervals(sweeps, differences, resamples=settings.resamples, seed=settings.seed)
    listed = []
    for key, value in point.items():
        name, _, metric = key.partition("\n")
        low, high = spans.get(key, (float("nan"), float("nan")))
        listed.append(
            Difference(name=name, base=base, metric=metric, value=value, low=low, high=high)
        )
    return Comparison(report=report, differences=tuple(listed))


def _known(value: float) -> float | None:
    return value if value == value else None
