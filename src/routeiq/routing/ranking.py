"""From eligible candidates to an ordered list, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, Ranked, RoutingRequest

from .objective import ordered, utilities
from .plan import Plan
from .records import ranked
from .strategy_set import StrategySet

LONGEST_RANKING = 16

Ranking = tuple[list[Ranked], str, str, bool | None]
"""Ranked candidates, name of the strategy that ran, reason, whether a hint was followed."""


class Ranker:
    """Orders candidates.

    A model group that is asked for by name is balanced over its deployments. In a routing group the
    strategy scores one representative of each model group, the profile's objective orders the groups, and
    balancing orders the deployments of the first. Those of the others go least busy first, ties at
    random, so that a dying group does not send everything to one place.
    """

    def __init__(self, strategies: StrategySet, balancing: RoutingStrategy, rng: Random) -> None:
        self._strategies = strategies
        self._balancing = balancing
        self._random = rng.random

    def balance(self, plan: Plan, request: RoutingRequest, field: list[Candidate]) -> Ranking:
        """Order the deployments of the one group that was asked for."""
        total = len(plan.slots)
        group = field[0].deployment.group
        ranking, failed = self._balanced(request, field)
        name = "configured order" if failed else self._balancing.name
        how = f"{name} over {len(field)} of {total} deployments" if total > 1 else "one deployment"
        hinted = None if request.hint is None else request.hint == group
        reason = f"{failed}{group} was asked for by name; {how}"
        return ranking[:LONGEST_RANKING], self._balancing.name, reason, hinted

    def route(self, plan: Plan, request: RoutingRequest, field: list[Candidate]) -> Ranking:
        """Order the groups by the objective, and the deployments within each."""
        heads, members = field, None
        if not plan.single:
            members = _by_group(field)
            heads = [group[0] for group in members.values()]
        strategy, failed = plan.strategy, ""
        scores = self._strategies.scores(strategy, request, heads)
        if scores is None:
            failed = f"strategy {strategy.name} failed, {self._balancing.name} instead; "
            strategy = self._balancing
            scores = self._strategies.scores(strategy, request, heads) or [0.0] * len(heads)
        values, floor = scores, None
        if strategy.traits.scores == "quality":
            floor = plan.profile.min_quality
            costs = [head.cost_usd for head in heads]
            values = utilities(plan.profile, scores, costs, [head.latency_s for head in heads])
        order, good = ordered(values, scores, floor)
        hinted = None if request.hint is None else _hint_first(request.hint, heads, order)
        ranking: list[Ranked] = []
        for index in order[:LONGEST_RANKING]:
            head, score, value = heads[index], scores[index], values[index]
            group: Sequence[Candidate] = members[head.deployment.group] if members else ()
            if len(group) > 1:
                spread = self._spread(request, group, first=not ranking)
                ranking += [ranked(candidate, score, value) for candidate in spread]
            else:
                ranking.append(ranked(head, score, value))
        said = self._strategies.explanation(strategy, request)
        why = _why(plan, strategy, heads[order[0]].deployment.group, len(heads), good, hinted)
        reason = f"{failed}{said}; {why}" if said else failed + why
        return ranking[:LONGEST_RANKING], strategy.name, reason, hinted

    def _spread(
        self, request: RoutingRequest, group: Sequence[Candidate], *, first: bool
    ) -> list[Candidate]:
        """The deployments of one group in the order in which they are tried."""
        if first:
            by_id = {candidate.deployment.id: candidate for candidate in group}
            ranking, _ = self._balanced(request, group)
            return [by_id[each.deployment.id] for each in ranking]
        random = self._random
        return sorted(group, key=lambda each: (each.deployment.order, each.in_flight, random()))

    def _balanced(
        self, request: RoutingRequest, group: Sequence[Candidate]
    ) -> tuple[list[Ranked], str]:
        """Balancing among those of the lowest `order`; the others follow, least busy first."""
        lowest = group[0].deployment.order
        lead = [candidate for candidate in group if candidate.deployment.order == lowest]
        rest = group[len(lead) :]
        scores: list[float] = [0.0] * len(lead)
        failed = ""
        if len(lead) > 1:
            given = self._strategies.scores(self._balancing, request, lead)
            if given is None:
                failed = f"balancing {self._balancing.name} failed; "
            else:
                scores = list(given)
        order = sorted(range(len(lead)), key=scores.__getitem__, reverse=True)
        ranking = [ranked(lead[index], scores[index], scores[index]) for index in order]
        if rest:
            ranking += [ranked(c, 0.0, 0.0) for c in self._spread(request, rest, first=False)]
        return ranking, failed


def _by_group(field: list[Candidate]) -> dict[str, list[Candidate]]:
    members: dict[str, list[Candidate]] = {}
    for candidate in field:
        members.setdefault(candidate.deployment.group, []).append(candidate)
    return members


def _hint_first(hint: str, heads: list[Candidate], order: list[int]) -> bool:
    """Move the hinted group (or upstream model) to the front of `order`, if it is eligible."""
    for position, index in enumerate(order):
        deployment = heads[index].deployment
        if hint in (deployment.group, deployment.model):
            order.insert(0, order.pop(position))
            return True
    return False


def _why(
    plan: Plan,
    strategy: RoutingStrategy,
    chosen: str,
    eligible: int,
    good: int,
    hinted: bool | None,
) -> str:
    among = f"of {eligible} eligible models ({plan.groups} in {plan.target.name})"
    if eligible == 1:
        return f"{chosen} is the only eligible model of {plan.groups} in {plan.target.name}"
    if hinted:
        return f"{chosen} was hinted, {among}"
    if strategy.traits.scores == "preference":
        return f"{chosen} comes first by {strategy.name} {among}"
    profile = plan.profile
    if good == 0:
        return f"{chosen} has the best predicted quality, below the floor {profile.min_quality}, {among}"
    return f"{chosen} has the {plan.praise} under profile {plan.profile_name} {among}"
