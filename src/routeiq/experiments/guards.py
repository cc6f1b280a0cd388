"""Variants that are shown to be worse than the control stop by themselves.

One worker of the fleet looks (a lease sees to that); what it finds is written to the control document, by
compare-and-set, and reaches every worker like any other change of control state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from routeiq.config.experiments import Experiment, Guard
from routeiq.exceptions import Conflict
from routeiq.ports import Clock
from routeiq.stores import Change, Counters, Document, Documents
from routeiq.types import JsonObject

from .definitions import DOCUMENT, Definition, merge
from .exposure import group
from .results import Counts
from .schedule import Schedule

Stops = dict[str, dict[str, JsonObject]]
_TRIES = 5


def beyond(guard: Guard, counts: Counts, variant: str, control: str) -> str | None:
    """Why a guard stops a variant, in words; `None` where it does not."""
    seen = counts.difference(variant, control, guard.metric, 1.0 - guard.confidence)
    if seen is None:
        return None
    least = -seen.high if guard.metric == "quality" else seen.low
    if least <= guard.margin:
        return None
    return (
        f"{guard.metric} is worse than {control}'s by {least:.4g} at least "
        f"(allowed: {guard.margin:g}; confidence {guard.confidence:g})"
    )


def evaluate(
    definition: Definition, fields: Mapping[str, int], now: float
) -> dict[str, JsonObject]:
    """Variants that must stop and have not yet: `{at, why}` by name."""
    experiment = definition.experiment
    if experiment.mode != "live" or Schedule(experiment).state(now) != "running":
        return {}
    counts = Counts(fields=fields)
    stops: dict[str, JsonObject] = {}
    for variant in experiment.variants:
        if variant == experiment.control or variant in definition.stopped:
            continue
        for guard in experiment.guards:
            why = beyond(guard, counts, variant, experiment.control)
            if why is not None:
                stops[variant] = {"at": now, "why": why}
                break
    return stops


async def watch_guards(
    *,
    documents: Documents,
    counters: Counters,
    declared: Callable[[], Mapping[str, Experiment]],
    clock: Clock,
    actor: str = "guard",
) -> Stops:
    """Look once at every experiment with guards; what was stopped by this look.

    Harmless where two workers look at once: what one has stopped the other finds stopped.

    Raises:
        StoreUnavailable: nothing is known to have been stopped; look again later.
        Conflict: others changed experiments all the time; look again later.
    """
    for last in range(_TRIES):
        document = await documents.read(DOCUMENT)
        stops = await _look(document, counters, declared(), clock.wall())
        if not stops:
            return {}
        details: dict[str, Any] = {"stopped": stops}
        change = Change(
            actor=actor, action="experiments.guard", target=",".join(stops), details=details
        )
        body = with_stops(document.body, stops)
        try:
            await documents.write(DOCUMENT, body, change, expected=document.version)
        except Conflict:
            if last == _TRIES - 1:
                raise
            continue
        return stops
    raise AssertionError("the last try returns or raises")


async def _look(
    document: Document, counters: Counters, declared: Mapping[str, Experiment], now: float
) -> Stops:
    definitions, _ = merge(declared, document.body)
    stops: Stops = {}
    for name, one in definitions.items():
        if one.experiment.guards:
            fields = await counters.read(group(name))
            found = await asyncio.to_thread(evaluate, one, fields, now)
            if found:
                stops[name] = found
    return stops


def with_stops(body: JsonObject | None, stops: Stops) -> JsonObject:
    """The control document with these variants stopped; those that were stopped before keep their reason."""
    before = (body or {}).get("stopped") or {}
    after = {name: {**found, **before.get(name, {})} for name, found in stops.items()}
    return {**(body or {}), "stopped": {**before, **after}}
