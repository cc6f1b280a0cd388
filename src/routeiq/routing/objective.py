"""What "best" means: scores, costs and latencies in, an order out; the semantics of a profile. Pure.

- Scores of kind `quality`: utility = score - cost_weight * USD - latency_weight * seconds. Candidates whose
  score reaches `min_quality` come first, by utility; the others follow, by score. So where nobody reaches
  the floor, the best predicted answer is taken.
- Scores of kind `preference` only order: they are not comparable with money or seconds, so utility = score.
- An unknown cost counts as the dearest known one. An unknown latency counts as the lowest known one, so that
  a new deployment is tried and measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.config.section import Profile
from routeiq.types import Candidate


def known_costs(costs: Sequence[float | None]) -> Sequence[float]:
    """`costs` with each unknown one replaced by the dearest known (0 where none is known)."""
    if None not in costs:
        return costs  # type: ignore[return-value]  # just checked
    dearest = max((cost for cost in costs if cost is not None), default=0.0)
    return [dearest if cost is None else cost for cost in costs]


def utilities(
    profile: Profile,
    scores: Sequence[float],
    candidates: Sequence[Candidate],
    *,
    cost_weight: float | None = None,
) -> Sequence[float]:
    """The utility of each candidate for scores of kind `quality`; a budget's `cost_weight` goes first."""
    values = scores
    weight = profile.cost_weight if cost_weight is None else cost_weight
    if weight:
        costs = known_costs([candidate.cost_usd for candidate in candidates])
        values = [s - weight * c for s, c in zip(scores, costs, strict=True)]
    weight = profile.latency_weight
    if weight:
        known = [each.latency_s for each in candidates]
        lowest = min((latency for latency in known if latency is not None), default=0.0)
        waits = [lowest if latency is None else latency for latency in known]
        values = [v - weight * s for v, s in zip(values, waits, strict=True)]
    return values


def ordered(
    values: Sequence[float], scores: Sequence[float], min_quality: float | None
) -> tuple[list[int], int]:
    """Indexes from best to worst, and how many of them reach the floor."""
    count = len(values)
    order = sorted(range(count), key=values.__getitem__, reverse=True)
    if min_quality is None:
        return order, count
    good = [index for index in order if scores[index] >= min_quality]
    if len(good) == count:
        return order, count
    poor = [index for index in order if scores[index] < min_quality]
    poor.sort(key=scores.__getitem__, reverse=True)
    return good + poor, len(good)
