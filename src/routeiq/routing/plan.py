"""What can be worked out about a name and a profile before any request comes: one `Plan` for both."""

from __future__ import annotations

from dataclasses import dataclass

from routeiq.base import RoutingStrategy
from routeiq.config.section import Profile
from routeiq.types import Candidate, Exclusion, RoutingRequest

from .budget import Budgets
from .catalog import Target
from .eligibility import Excluded, Slot, Why, outside_profile
from .load import LoadTracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The candidates of a target under a profile, and how to choose between them.

    `slots` are in the order of the configuration, within a group by `order`. `ruled_out` are those that
    the profile never admits. `groups` counts model groups; `single` says that each has one slot.
    `praise` completes "X has the ...".
    """

    target: Target
    slots: tuple[Slot, ...]
    ruled_out: tuple[Excluded, ...]
    ruled_out_in_words: tuple[Exclusion, ...]
    groups: int
    single: bool
    strategy: RoutingStrategy
    profile: Profile
    profile_name: str | None
    praise: str
    budgets: Budgets | None


def make_plan(
    target: Target,
    profile_name: str,
    profile: Profile,
    strategy: RoutingStrategy,
    load: LoadTracker,
    budgets: Budgets | None,
) -> Plan:
    """Look everything up once. A model that is asked for by name is not subject to a profile."""
    slots: list[Slot] = []
    ruled_out: list[Excluded] = []
    for group in target.groups:
        for deployment in sorted(group, key=lambda each: each.order):
            books = load.of(deployment.id)
            slot = Slot(
                deployment,
                books,
                routed=target.routed,
                chat_only=target.chat_only,
                length=load.lengths.of(deployment.group),
            )
            if target.routed and outside_profile(deployment, profile):
                ruled_out.append((slot, Why.PROFILE))
            else:
                slots.append(slot)
    in_words = [
        Exclusion(deployment_id=slot.id, reason=f"{why} {profile_name!r}")
        for slot, why in ruled_out
    ]
    return Plan(
        target=target,
        slots=tuple(slots),
        ruled_out=tuple(ruled_out),
        ruled_out_in_words=tuple(in_words),
        groups=len(target.groups),
        single=len({slot.group for slot in slots}) == len(slots),
        strategy=strategy,
        profile=profile,
        profile_name=profile_name if target.routed else None,
        praise=_praise(profile),
        budgets=budgets,
    )


def _praise(profile: Profile) -> str:
    parts = ["cost"] * bool(profile.cost_weight) + ["latency"] * bool(profile.latency_weight)
    if not parts:
        return "best predicted quality"
    return f"best balance of quality and {' and '.join(parts)}"


def candidates(slots: list[Slot], request: RoutingRequest, now: float) -> list[Candidate]:
    """The slots with what is predicted for this request; a cost is unknown where a price is."""
    tokens_in, writes = request.input_tokens, request.operation != "embeddings"
    limit, choices = request.max_output_tokens, request.choices
    stream = request.stream
    found = []
    for slot in slots:
        cost = None
        if slot.input_usd is not None:
            if not writes:
                cost = tokens_in * slot.input_usd
            elif slot.output_usd is not None:
                tokens_out = slot.length.expected(limit, choices)
                cost = tokens_in * slot.input_usd + tokens_out * slot.output_usd
        load = slot.load
        seconds = load.expected_s(now, stream=stream)
        found.append(
            Candidate(
                deployment=slot.deployment,
                cost_usd=cost,
                latency_s=seconds,
                in_flight=load.in_flight,
            )
        )
    return found
