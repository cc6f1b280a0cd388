"""Exact confidence sequences for shares (of failures): valid for any number of requests, any rarity, any look.

The beta-binomial mixture: for every p, `B(a+k, b+n-k) / (B(a,b) p^k (1-p)^(n-k))` is a martingale that starts at 1
if p is the true share (Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of
Mathematical Statistics 41, 1970). So those p for which it is below 1/alpha are a confidence sequence (Ville's
inequality). With a = b = 1/2 it is as good for one failure in a thousand as for one in two.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, lgamma, log, log1p

from .statistics import Interval

_A = _B = 0.5
_STEPS = 60


def log_evidence(k: int, n: int, p: float) -> float:
    """Logarithm of the e-value against `p` being the share, after k of n."""
    mixed = lgamma(_A + k) + lgamma(_B + n - k) - lgamma(_A + _B + n)
    prior = lgamma(_A) + lgamma(_B) - lgamma(_A + _B)
    # 0 * log 0 is 0: without failures p = 0 explains everything.
    explained = (k * log(p) if k else 0.0) + ((n - k) * log1p(-p) if n > k else 0.0)
    return mixed - prior - explained


def share_sequence(k: int, n: int, alpha: float) -> Interval | None:
    """Confidence sequence for a share of which `k` of `n` were seen; `None` before the first."""
    if n <= 0:
        return None
    limit, seen = -log(alpha), k / n

    def inside(p: float) -> bool:
        return log_evidence(k, n, p) < limit

    # The evidence grows on either side of k/n, so each bound is found by bisection.
    low = 0.0 if k == 0 else _boundary(inside, seen, 0.0)
    high = 1.0 if k == n else _boundary(inside, seen, 1.0)
    return Interval(mean=seen, low=low, high=high)


def share_difference(
    failures: int, n: int, control_failures: int, control_n: int, alpha: float
) -> Interval | None:
    """Confidence sequence for the difference of two shares: each arm's at half of alpha."""
    arm = share_sequence(failures, n, alpha / 2)
    control = share_sequence(control_failures, control_n, alpha / 2)
    if arm is None or control is None:
        return None
    return Interval(
        mean=arm.mean - control.mean,
        low=arm.low - control.high,
        high=arm.high - control.low,
        p=_p_value(failures, n, control_failures, control_n),
    )


def _p_value(failures: int, n: int, control_failures: int, control_n: int) -> float:
    """Twice the alpha of each arm's sequence at which the two would just touch; at most 1.

    They touch where both have the same evidence against one share between theirs.
    """
    low, high = sorted((failures / n, control_failures / control_n))
    if low == high:
        return 1.0

    def first_less(p: float) -> bool:
        first, second = log_evidence(failures, n, p), log_evidence(control_failures, control_n, p)
        return (first < second) == (failures / n < control_failures / control_n)

    at = _boundary(first_less, low, high)
    evidence = log_evidence(failures, n, at)
    return min(1.0, 2.0 * exp(-evidence)) if evidence > 0.0 else 1.0


def _boundary(inside: Callable[[float], bool], within: float, beyond: float) -> float:
    """Where `inside` ends on the way from one number to another; ends of the way are never asked about."""
    for _ in range(_STEPS):
        middle = (within + beyond) / 2
        if middle in (within, beyond):
            break
        if inside(middle):
            within = middle
        else:
            beyond = middle
    return beyond
