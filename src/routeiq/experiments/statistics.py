"""Means, differences, and how sure we are of them however often somebody looks.

Ordinary intervals hold for one look at a size fixed in advance; whoever looks every hour and stops at the first
significant difference is wrong far more often than they say. A *confidence sequence* holds for all looks together.

- Means of any metric: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
  "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52(6), 2024;
  arXiv 2103.06476), a normal mixture. The difference of two arms is that of asymptotically linear estimators.
- Shares of failures: exact, whatever the number: see `sequential.py`.

Requests are taken as independent of each other.
"""

from __future__ import annotations

from math import exp, log, sqrt

from routeiq.values import value

BEST_AT_SKEWED = 30_000
"""Observations at which the sequences of costs and latencies are tightest. Late on purpose: that keeps them wide
while very dear or slow requests may not have been seen yet (docs/adr/0015-experiments.md: what was measured)."""
BEST_AT_BOUNDED = 10_000
"""The same for scores, which have no such tail."""
MINIMUM = 100
"""Observations per arm below which the central limit theorem is not relied on."""


@value
class Interval:
    """An estimate and what it may be; `p` is the always-valid p-value of "it is zero" where it is a difference."""

    mean: float
    low: float
    high: float
    p: float | None = None

    def shifted(self, scale: float) -> Interval:
        """The same in another unit."""
        return Interval(
            mean=self.mean * scale, low=self.low * scale, high=self.high * scale, p=self.p
        )


@value
class Moments:
    """Count, sum and sum of squares of one metric in one arm."""

    n: int
    total: int
    squares: int

    @property
    def mean(self) -> float:
        """The mean; only where there is something."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Unbiased. The integers are exact, so nothing cancels out."""
        return (self.squares * self.n - self.total * self.total) / (self.n * (self.n - 1))

    def with_bounds(self, low: int, high: int) -> Moments:
        """With one observation more at either bound (Agresti and Coull).

        Scores that have all been the same so far would otherwise have no variance, and an interval of no width.
        """
        return Moments(
            n=self.n + 2,
            total=self.total + low + high,
            squares=self.squares + low * low + high * high,
        )


def tuning(alpha: float, best_at: float) -> float:
    """The mixture's variance parameter, in observations, so that it is tightest at `best_at`."""
    return best_at / (-2.0 * log(alpha) + log(-2.0 * log(alpha) + 1.0))


def deviation(n: float, alpha: float, kappa: float) -> float:
    """Standard errors (of a mean of `n`) beyond which it never strays, with probability 1 - alpha over all n."""
    return sqrt((n + kappa) / n * log((n + kappa) / (kappa * alpha * alpha)))


def mean_sequence(arm: Moments, alpha: float, best_at: float) -> Interval | None:
    """Confidence sequence for a mean; `None` while there is too little."""
    if arm.n < MINIMUM:
        return None
    kappa = tuning(alpha, best_at)
    radius = sqrt(arm.variance / arm.n) * deviation(arm.n, alpha, kappa)
    return Interval(mean=arm.mean, low=arm.mean - radius, high=arm.mean + radius)


def difference_sequence(
    arm: Moments, control: Moments, alpha: float, best_at: float
) -> Interval | None:
    """Confidence sequence for `arm` less `control`; `None` while there is too little of one."""
    if min(arm.n, control.n) < MINIMUM:
        return None
    difference = arm.mean - control.mean
    variance = arm.variance / arm.n + control.variance / control.n
    if variance <= 0.0:  # every request cost the same: what is seen is what there is
        p = 0.0 if difference else 1.0
        return Interval(mean=difference, low=difference, high=difference, p=p)
    # Information so far, as observations of two arms of equal size: a small arm counts for what it is.
    n = 2.0 * (arm.variance + control.variance) / variance
    kappa = tuning(alpha, best_at)
    radius = sqrt(variance) * deviation(n, alpha, kappa)
    return Interval(
        mean=difference,
        low=difference - radius,
        high=difference + radius,
        p=_p_value(difference * difference / variance, n, kappa),
    )


def _p_value(squared: float, n: float, kappa: float) -> float:
    """The alpha at which the sequence with this `kappa` would just reach zero: valid at any time."""
    evidence = 0.5 * log(kappa / (n + kappa)) + 0.5 * squared * n / (n + kappa)
    return exp(-evidence) if evidence > 0.0 else 1.0


def significant(interval: Interval, margin: float = 0.0) -> bool:
    """Whether the whole sequence lies beyond the margin, on either side."""
    return interval.low > margin or interval.high < -margin
