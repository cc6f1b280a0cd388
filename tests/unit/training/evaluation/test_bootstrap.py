"""The paired bootstrap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from routeiq.training.evaluation.bootstrap import Means, intervals, percentiles, resampled
from routeiq.training.evaluation.curves import Sweep


def one(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Sweep:
    return Sweep(
        quality=values[:, None], cost=np.zeros((len(values), 1)), count=np.ones((len(values), 1))
    )


VALUES = np.random.default_rng(0).normal(0.5, 0.2, 400)


def mean_of(means: Means) -> Mapping[str, float]:
    found = {"mean": float(means["a"][0][0])}
    if "b" in means:
        found["difference"] = float(means["a"][0][0] - means["b"][0][0])
    return found


def test_same_seed_same_interval() -> None:
    first = intervals({"a": one(VALUES)}, mean_of, resamples=300, seed=5)
    assert first == intervals({"a": one(VALUES)}, mean_of, resamples=300, seed=5)
    assert first != intervals({"a": one(VALUES)}, mean_of, resamples=300, seed=6)


def test_interval_is_as_wide_as_theory_says() -> None:
    low, high = intervals({"a": one(VALUES)}, mean_of, resamples=2000)["mean"]
    half = 1.96 * VALUES.std() / np.sqrt(len(VALUES))
    assert low == pytest.approx(VALUES.mean() - half, abs=0.004)
    assert high == pytest.approx(VALUES.mean() + half, abs=0.004)


def test_noise_that_both_share_cancels() -> None:
    sweeps = {"a": one(VALUES + 0.01), "b": one(VALUES)}
    assert intervals(sweeps, mean_of, resamples=100)["difference"] == pytest.approx((0.01, 0.01))


def test_different_rows_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        next(iter(resampled({"a": one(VALUES), "b": one(VALUES[:10])}, 1, 0)))


def test_never_reached_is_the_worst_value() -> None:
    low, high = percentiles(np.array([np.nan, 1.0, 2.0, 3.0]))
    assert np.isnan(low)
    assert high == 3.0
