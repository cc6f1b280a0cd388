"""Shadow experiments: variants decide beside the active strategy; nothing of it is carried out.

It runs after the answer, off the client's path. The caller gives the function that decides; it must have no side
effects: no commit, no observation, no budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from routeiq.exceptions import RouteIQError
from routeiq.stores import NANO
from routeiq.types import Decision, JsonObject, RoutingRequest

from .exposure import Tally
from .running import Arm, Running

Decide = Callable[[RoutingRequest], Decision]


def under(request: RoutingRequest, arm: Arm) -> RoutingRequest:
    """The request as a variant wants it decided; the lead's fields say why."""
    return replace(
        request,
        model=arm.model or request.model,
        profile=arm.profile or request.profile,
        strategy=arm.strategy or request.strategy,
        experiment=arm.experiment,
        variant=arm.variant,
    )


def decide_beside(
    experiments: Iterable[Running],
    request: RoutingRequest,
    active: Decision,
    decide: Decide,
    tally: Tally,
) -> list[JsonObject]:
    """What each variant would have chosen, for the decision record's `shadow`; counted in `tally`.

    Sync and as slow as the strategies are: leave the event loop where one of them is CPU-bound.
    """
    return [_one(arm, request, active, decide, tally) for one in experiments for arm in one.arms()]


def _one(
    arm: Arm, request: RoutingRequest, active: Decision, decide: Decide, tally: Tally
) -> JsonObject:
    name, variant = arm.experiment, arm.assigned
    found: JsonObject = {"experiment": name, "variant": variant}
    tally.add(name, f"{variant}:requests")
    try:
        decision = decide(under(request, arm))
    except RouteIQError as error:
        tally.add(name, f"{variant}:errors")
        return {**found, "error": str(error)[:200]}
    chosen, first = decision.chosen, decision.ranking[0]
    agrees = chosen.group == active.chosen.group
    if agrees:
        tally.add(name, f"{variant}:agree")
    # Both or neither, so that their sums can be compared.
    if first.cost_usd is not None and active.ranking[0].cost_usd is not None:
        tally.measure(name, variant, "cost", round(first.cost_usd * NANO))
        tally.measure(name, variant, "cost_active", round(active.ranking[0].cost_usd * NANO))
    return {
        **found,
        "model": chosen.group,
        "deployment": chosen.id,
        "strategy": decision.strategy,
        "score": first.score,
        "cost_usd": first.cost_usd,
        "agrees": agrees,
    }
