"""Whether the traffic was really split as configured. If not, no other figure of the experiment can be trusted.

The sequential test of Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022; arXiv
2011.03567): the counts' likelihood under a Dirichlet mixture over all shares, divided by that under the configured
ones, is a martingale that starts at 1 while the split is right. By Ville's inequality it ever reaches 1/alpha with
probability alpha at most, however often one looks.

What is counted are independent draws: subjects, not their requests. Without a common memory each worker counts a
subject when it sees it first, so it may be there `multiplicity` times; counts are divided by that. A power w <= 1
of a likelihood ratio has a mean of at most 1 (Jensen), so that errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, lgamma, log

from routeiq.values import value

ALPHA = 0.01
"""Of the mismatch alarm: it is rare and serious."""
TOLERANCE = 0.1
"""Relative deviation of a share from the configured one above which the split is said to deviate."""
_CONCENTRATION = 100.0
"""Weight of the configured shares in the mixture: it looks for small deviations first."""
_SIGMAS = 3.0
_MOST = 700.0


@value
class Split:
    """How the draws were split. `deviation` is the largest relative one of a share from the configured.

    `deviates` is only said where there are enough draws that chance cannot explain `TOLERANCE`.
    """

    draws: float
    e_value: float
    p: float
    mismatch: bool
    deviation: float
    deviates: bool
    minimum: int


def log_e_value(counts: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """Logarithm of the e-value against the configured shares."""
    n = sum(counts.values())
    total = lgamma(_CONCENTRATION) - lgamma(_CONCENTRATION + n)
    for name, share in shares.items():
        count = counts.get(name, 0.0)
        if share <= 0.0:
            if count:
                return inf  # nobody should have been drawn for it
            continue
        prior = _CONCENTRATION * share
        total += lgamma(prior + count) - lgamma(prior) - count * log(share)
    return total


def split_of(
    counts: Mapping[str, int], weights: Mapping[str, float], multiplicity: int = 1
) -> Split:
    """Judge a split. `weights` are as configured, of every variant."""
    total = sum(weights.values())
    shares = {name: weight / total for name, weight in weights.items()}
    drawn = {name: counts.get(name, 0) / max(1, multiplicity) for name in shares}
    n = sum(drawn.values())
    evidence = log_e_value(drawn, shares)
    relative = [abs(drawn[name] / n / share - 1.0) for name, share in shares.items() if share and n]
    largest = max(relative, default=0.0)
    # A share of p deviates by sqrt((1 - p) / (n p)) of itself by chance.
    scarce = min(share for share in shares.values() if share)
    minimum = int((_SIGMAS / TOLERANCE) ** 2 * (1.0 - scarce) / scarce) + 1
    p = exp(-evidence) if evidence > 0.0 else 1.0
    return Split(
        draws=n,
        e_value=exp(min(evidence, _MOST)),
        p=p,
        mismatch=p < ALPHA,
        deviation=largest,
        deviates=n >= minimum and largest > TOLERANCE,
        minimum=minimum,
    )
