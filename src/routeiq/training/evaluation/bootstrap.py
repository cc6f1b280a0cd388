"""Paired bootstrap: the same resampled units for every strategy, so that differences have honest intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from .curves import Sweep
from .outcomes import Array

RESAMPLES = 2_000
BATCH = 100
"""Resamples that are drawn and multiplied at a time, so that memory stays bounded."""
LEVEL = 0.95

Means = Mapping[str, tuple[Array, Array]]
"""Mean quality and mean cost per operating point, by name of the sweep, in one resample."""


def resampled(sweeps: Mapping[str, Sweep], resamples: int, seed: int) -> Iterator[Means]:
    """The sweeps' means in each of `resamples` bootstrap samples of the units. Deterministic for a seed.

    Raises:
        ValueError: the sweeps are over different units, so that they cannot be paired.
    """
    sizes = {len(each.quality) for each in sweeps.values()}
    if len(sizes) > 1:
        raise ValueError(f"sweeps over different numbers of units cannot be paired: {sizes}")
    total = sizes.pop()
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, BATCH):
        batch = min(BATCH, resamples - start)
        weights = _weights(rng, batch, total)
        parts = {name: _means(weights, each) for name, each in sweeps.items()}
        for row in range(batch):
            yield {name: (quality[row], cost[row]) for name, (quality, cost) in parts.items()}


def _weights(rng: np.random.Generator, batch: int, total: int) -> Array:
    drawn = rng.integers(0, total, (batch, total)) + np.arange(batch)[:, None] * total
    return (
        np.bincount(drawn.ravel(), minlength=batch * total).reshape(batch, total).astype(np.float64)
    )


def _means(weights: Array, each: Sweep) -> tuple[Array, Array]:
    count = np.maximum(weights @ each.count, 1.0)
    return (weights @ each.quality) / count, (weights @ each.cost) / count


def intervals(
    sweeps: Mapping[str, Sweep],
    figures: Callable[[Means], Mapping[str, float]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals (95 %) of every figure that `figures` computes from the means of a resample.

    A figure that is NaN in a resample counts as -inf there: "never reached" is worse than any value. Where an
    end of the interval is -inf it is given as NaN.
    """
    drawn = [figures(means) for means in resampled(sweeps, resamples, seed)]
    if not drawn:
        return {}
    return {name: percentiles(np.array([each[name] for each in drawn])) for name in drawn[0]}


def percentiles(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of bootstrap values, by order statistics (no interpolation, so that -inf is allowed)."""
    ranked = np.sort(np.where(np.isnan(values), -np.inf, values))
    tail = (1.0 - LEVEL) / 2.0
    low = ranked[int(np.floor(tail * (len(ranked) - 1)))]
    high = ranked[int(np.ceil((1.0 - tail) * (len(ranked) - 1)))]
    return _finite(low), _finite(high)


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else float("nan")
