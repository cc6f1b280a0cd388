"""Keeping a profile's guarantee: who may stand in for the reference, as certified, and what to say about it."""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.base import RoutingStrategy
from routeiq.config.section import Guarantee
from routeiq.types import Candidate

from .guarantee import switchable


def guaranteed(
    promise: Guarantee,
    strategy: RoutingStrategy,
    heads: Sequence[Candidate],
    scores: Sequence[float],
    order: list[int],
    cost_weight: float | None,
) -> tuple[list[int], int, str]:
    """`order` with those first that may stand in for the reference, how many these are, and the words for it.

    Quality fails closed: without a certificate only the reference is first, the others follow by score as
    fallbacks. `cost_weight` is the objective's, `None` where it changes (a budget). Where the reference is not
    eligible the promise cannot be kept: best predicted quality, said so.
    """
    reference = next(
        (i for i, head in enumerate(heads) if head.deployment.group == promise.reference), None
    )
    by_score = sorted(order, key=scores.__getitem__, reverse=True)
    if reference is None:
        return (
            by_score,
            len(by_score),
            f"; the guarantee's reference {promise.reference} is not eligible",
        )
    margin = strategy.certified_margin(
        promise.reference, promise.epsilon, promise.delta, cost_weight
    )
    allowed = switchable(scores, reference, None if margin is None else margin.tau)
    if margin is not None:
        known = margin.deployments
        allowed = tuple(i for i in allowed if i == reference or heads[i].deployment.id in known)
    first = [index for index in order if index in allowed]
    said = f"; certified no worse than {promise.reference} by more than {promise.epsilon:g}"
    if margin is None:
        said = f"; nothing is certified against {promise.reference}, so it answers itself"
    return first + [index for index in by_score if index not in allowed], len(first), said
