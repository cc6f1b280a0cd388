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
_PRIOR = lgamma(_A) + lgamma(_B) - lgamma(_A + _B)
_STEPS = 40


def evidence_of(k: int, n: int) -> Callable[[float], float]:
    """After k of n: the logarithm of the e-value against p in (0, 1) being the share."""
    mixed = lgamma(_A + k) + lgamma(_B + n - k) - lgamma(_A + _B + n) - _PRIOR
    rest = n - k

    def against(p: float) -> float:
        return mixed - k * log(p) - rest * log1p(-p)

    return against


def share_sequence(k: int, n: int, alpha: float) -> Interval | None:
    """Confidence sequence for a share of which `k` of `n` were seen; `None` before the first."""
    if n <= 0:
        return None
    limit, seen, against = -log(alpha), k / n, evidence_of(k, n)

    def inside(p: float) -> bool:
        return against(p) < limit

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

    arm, control = evidence_of(failures, n), evidence_of(control_failures, control_n)
    below = failures / n < control_failures / control_n

    def nearer_the_lower(p: float) -> bool:
        return (arm(p) < control(p)) == below

    at = _boundary(nearer_the_lower, low, high)
    evidence = arm(at)
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
