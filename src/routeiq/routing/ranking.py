"""From eligible candidates to an ordered list, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from routeiq.base import RoutingStrategy
from routeiq.types import Candidate, Ranked, RoutingRequest

from .objective import ordered, utilities
from .plan import Plan
from .promise import guaranteed
from .strategy_set import StrategySet

LONGEST_RANKING = 16


class Ranking(NamedTuple):
    """What ordering gave: the entries best first, who ordered them and why, and what chance had to do with it."""

    entries: list[Ranked]
    strategy: str
    reason: str
    hinted: bool | None
    propensity: float | None = 1.0
    propensities: Mapping[str, float] | None = None
    explored: bool = False


class Chance(NamedTuple):
    """How likely each group was to be chosen, and whether chance chose."""

    propensities: dict[str, float]
    explored: bool


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
        pairs, failed = self._balanced(request, field)
        ranking = [
            Ranked(
                deployment=candidate.deployment,
                score=score,
                utility=score,
                cost_usd=candidate.cost_usd,
                latency_s=candidate.latency_s,
            )
            for candidate, score in pairs[:LONGEST_RANKING]
        ]
        name = "configured order" if failed else self._balancing.name
        how = f"{name} over {len(field)} of {total} deployments" if total > 1 else "one deployment"
        hinted = None if request.hint is None else request.hint == group
        reason = f"{failed}{group} was asked for by name; {how}"
        return Ranking(ranking, self._balancing.name, reason, hinted)

    def route(self, plan: Plan, request: RoutingRequest, field: list[Candidate]) -> Ranking:
        """Order the groups by the objective, and the deployments within each."""
        heads, members = field, None
        if not plan.single:
            members = _by_group(field)
            heads = [group[0] for group in members.values()]
        strategy, scores, failed = self._scored(plan.strategy, request, heads)
        comparable = strategy.traits.scores == "quality"
        values, floor = scores, None
        if comparable:
            floor = plan.profile.min_quality
            weight = None if plan.budgets is None else plan.budgets.weight(request.caller)
            values = utilities(plan.profile, scores, heads, cost_weight=weight)
        order, good = ordered(values, scores, floor)
        limits, fit = "", len(order)
        if plan.profile.guarantee is not None:
            fixed = plan.profile.cost_weight if plan.budgets is None else None
            order, fit, limits = guaranteed(
                plan.profile.guarantee, strategy, heads, scores, order, fixed
            )
        hinted = None if request.hint is None else _hint_first(request.hint, heads, order, fit)
        chance = None
        if strategy.traits.learns_online and not hinted and not limits:
            chance = self._chance(strategy, request, heads, order, good)
        chosen = heads[order[0]].deployment.group
        if chance is not None and chance.explored:
            why = f"{chosen} was drawn at random to learn, of {len(heads)} eligible models"
        else:
            by = "" if comparable else strategy.name
            why = _why(plan, chosen, len(heads), by=by, good=good, hinted=hinted) + limits
        said = self._strategies.explanation(strategy, request)
        reason = f"{failed}{said}; {why}" if said else failed + why
        ranking = self._entries(request, heads, members, scores, values, order)
        if chance is None:
            known = None if strategy.traits.randomised else 1.0
            return Ranking(ranking, strategy.name, reason, hinted, known)
        own = chance.propensities[chosen]
        return Ranking(
            ranking, strategy.name, reason, hinted, own, chance.propensities, chance.explored
        )

    def _scored(
        self, strategy: RoutingStrategy, request: RoutingRequest, heads: list[Candidate]
    ) -> tuple[RoutingStrategy, Sequence[float], str]:
        """The scores, of the strategy itself or of what stands in for it, and what to say if it failed."""
        scores = self._strategies.scores(strategy, request, heads)
        if scores is not None:
            return strategy, scores, ""
        trouble = self._strategies.trouble(strategy)
        for other in (self._strategies.fallback, self._balancing):
            if other is not strategy:
                scores = self._strategies.scores(other, request, heads)
                if scores is not None:
                    return (
                        other,
                        scores,
                        f"strategy {strategy.name} {trouble}, {other.name} instead; ",
                    )
        return self._balancing, [0.0] * len(heads), f"strategy {strategy.name} {trouble}; "

    def _chance(
        self,
        strategy: RoutingStrategy,
        request: RoutingRequest,
        heads: list[Candidate],
        order: list[int],
        good: int,
    ) -> Chance | None:
        """Let a learner explore: epsilon-greedy among the candidates that reach the floor; changes `order`."""
        share = self._strategies.exploration(strategy, request)
        field = order[: good or 1]
        if share <= 0.0 or len(field) < 2:
            return None
        best = heads[order[0]].deployment.group
        each = share / len(field)
        propensities = {heads[index].deployment.group: each for index in field}
        propensities[best] += 1.0 - share
        explored = self._random() < share
        if explored:
            order.insert(0, order.pop(int(self._random() * len(field))))
        return Chance(propensities, explored)

    def _entries(
        self,
        request: RoutingRequest,
        heads: list[Candidate],
        members: dict[str, list[Candidate]] | None,
        scores: Sequence[float],
        values: Sequence[float],
        order: list[int],
    ) -> list[Ranked]:
        ranking: list[Ranked] = []
        for index in order[:LONGEST_RANKING]:
            head = heads[index]
            group: Sequence[Candidate] = members[head.deployment.group] if members else (head,)
            if len(group) > 1:
                group = self._spread(request, group, first=not ranking)
            for candidate in group:
                ranking.append(  # noqa: PERF401 - mostly one a group: cheaper than a generator
                    Ranked(
                        deployment=candidate.deployment,
                        score=scores[index],
                        utility=values[index],
                        cost_usd=candidate.cost_usd,
                        latency_s=candidate.latency_s,
                    )
                )
        return ranking[:LONGEST_RANKING]

    def _spread(
        self, request: RoutingRequest, group: Sequence[Candidate], *, first: bool
    ) -> Sequence[Candidate]:
        """The deployments of one group in the order in which they are tried."""
        if first:
            return [candidate for candidate, _ in self._balanced(request, group)[0]]
        random = self._random
        return sorted(group, key=lambda each: (each.deployment.order, each.in_flight, random()))

    def _balanced(
        self, request: RoutingRequest, group: Sequence[Candidate]
    ) -> tuple[list[tuple[Candidate, float]], str]:
        """Balancing among those of the lowest `order`; the others follow, least busy first.

        Gives candidates with their scores, and what to say if balancing failed.
        """
        lowest = group[0].deployment.order
        lead = [candidate for candidate in group if candidate.deployment.order == lowest]
        scores: Sequence[float] | None = None
        failed = ""
        if len(lead) > 1:
            scores = self._strategies.scores(self._balancing, request, lead)
            if scores is None:
                failed = f"balancing {self._balancing.name} failed; "
        scores = scores or [0.0] * len(lead)
        order = sorted(range(len(lead)), key=scores.__getitem__, reverse=True)
        pairs = [(lead[index], scores[index]) for index in order]
        if len(lead) < len(group):
            rest = self._spread(request, group[len(lead) :], first=False)
            pairs += [(candidate, 0.0) for candidate in rest]
        return pairs, failed


def sticking(
    ranking: Ranking, deployment_id: str, field: Sequence[Candidate], *, certified: bool
) -> Ranking:
    """The ranking with the deployment in front that the conversation stays with, if it may answer (is in `field`).

    Where the profile guarantees quality (`certified`) only another deployment of the chosen model may go ahead.
    Nothing was left to chance then, so the propensity is 1.
    """
    entries = ranking.entries
    found = next((one for one in entries if one.deployment.id == deployment_id), None)
    if found is None:  # rankings are cut: it may have come too late to be in this one
        found = next(
            (_late(one, entries) for one in field if one.deployment.id == deployment_id), None
        )
    if found is None:
        return ranking
    group = found.deployment.group
    if certified and group != entries[0].deployment.group:
        return ranking
    moved = [found, *(one for one in entries if one is not found)][:LONGEST_RANKING]
    return Ranking(moved, ranking.strategy, f"the conversation stays with {group}", ranking.hinted)


def _late(candidate: Candidate, entries: list[Ranked]) -> Ranked:
    """The entry of a candidate that the ranking was cut before: no better than the last, whatever its model."""
    last = entries[-1]
    group = candidate.deployment.group
    like = next((one for one in entries if one.deployment.group == group), last)
    return Ranked(
        deployment=candidate.deployment,
        score=min(like.score, last.score),
        utility=min(like.utility, last.utility),
        cost_usd=candidate.cost_usd,
        latency_s=candidate.latency_s,
    )


def _by_group(field: list[Candidate]) -> dict[str, list[Candidate]]:
    members: dict[str, list[Candidate]] = {}
    for candidate in field:
        members.setdefault(candidate.deployment.group, []).append(candidate)
    return members


def _hint_first(hint: str, heads: list[Candidate], order: list[int], fit: int) -> bool:
    """Move the hinted group (or upstream model) to the front of `order`, if it is among the first `fit`.

    A hint is a wish: what the operator guarantees goes before it.
    """
    for position, index in enumerate(order[:fit]):
        deployment = heads[index].deployment
        if hint in (deployment.group, deployment.model):
            order.insert(0, order.pop(position))
            return True
    return False


def _why(plan: Plan, chosen: str, eligible: int, *, by: str, good: int, hinted: bool | None) -> str:
    """Why `chosen` is first of the `eligible`; `by` names a strategy that only orders."""
    if eligible == 1:
        return f"{chosen} is the only eligible model of {plan.groups} in {plan.target.name}"
    among = f"of {eligible} eligible models ({plan.groups} in {plan.target.name})"
    if hinted:
        return f"{chosen} was hinted, {among}"
    if by:
        return f"{chosen} comes first by {by} {among}"
    if good == 0:
        floor = plan.profile.min_quality
        return f"{chosen} has the best predicted quality, below the floor {floor}, {among}"
    return f"{chosen} has the {plan.praise} under profile {plan.profile_name} {among}"
