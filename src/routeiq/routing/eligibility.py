"""Which deployments may answer this request at all, and why the others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from math import inf

from routeiq.config.section import Profile
from routeiq.types import Capability, Deployment, Exclusion, RoutingRequest

from .load import Load
from .spending import OutputLength

DEFAULT_TAG = "default"
"""Deployments with this tag take requests without tags, and those whose tags nobody has (as in LiteLLM)."""
SURELY = 0.75
"""Share of the estimated tokens that are surely there: the estimate errs high."""

_OPERATIONS = {
    "chat": frozenset({"chat", "responses", "completions"}),
    "completion": frozenset({"completions"}),
    "responses": frozenset({"responses"}),
    "embedding": frozenset({"embeddings"}),
}


class Why(StrEnum):
    """Why a deployment is out; the value completes "N ..." in an error message."""

    TRIED = "already tried"
    ACCESS = "that the key may not use"
    BREAKER = "with an open circuit breaker"
    CAPABILITY = "without a capability that the request needs"
    CONTEXT = "with too small a context window"
    REGION = "in another region"
    TAGS = "without a matching tag"
    OPERATION = "for another kind of request"
    PROFILE = "outside the profile"
    COST = "above the profile's cost limit"


class Slot:
    """A deployment with everything that a decision reads, looked up once."""

    def __init__(
        self,
        deployment: Deployment,
        load: Load,
        *,
        routed: bool,
        chat_only: bool,
        length: OutputLength | None = None,
    ) -> None:
        facts = deployment.facts
        self.deployment = deployment
        self.group = deployment.group
        self.load = load
        self.length = length or OutputLength()
        self.id = deployment.id
        self.region = deployment.region
        self.capabilities = facts.capabilities
        self.input_usd = facts.input_usd_per_token
        self.output_usd = facts.output_usd_per_token
        # A model that was asked for by name gets the benefit of the doubt; one that we pick must fit.
        window = inf if facts.context_tokens is None else float(facts.context_tokens)
        self.context = window if routed else window / SURELY
        self.operations: frozenset[str] | None = None
        mode = "chat" if chat_only and facts.mode is None else facts.mode
        if routed and mode is not None:
            self.operations = _OPERATIONS.get(mode, frozenset())


Excluded = tuple[Slot, Why]


def select(
    slots: Sequence[Slot],
    request: RoutingRequest,
    *,
    allows: Callable[[str], bool],
    exclude: frozenset[str],
    routed: bool,
    tag_filtering: bool,
) -> tuple[list[Slot], list[Excluded]]:
    """Split `slots` into those that may answer and those that may not, in order."""
    needs = request.needs
    region = request.region
    operation = request.operation
    access = request.access
    tokens = request.input_tokens + (request.max_output_tokens or 0 if routed else 0)
    eligible: list[Slot] = []
    excluded: list[Excluded] = []
    for slot in slots:
        if slot.id in exclude:
            why = Why.TRIED
        elif access is not None and not access.allows(slot.group):
            why = Why.ACCESS
        elif needs and slot.capabilities is not None and not needs <= slot.capabilities:
            why = Why.CAPABILITY
        elif tokens > slot.context:
            why = Why.CONTEXT
        elif region is not None and slot.region != region:
            why = Why.REGION
        elif slot.operations is not None and operation not in slot.operations:
            why = Why.OPERATION
        elif not allows(slot.id):
            why = Why.BREAKER
        else:
            eligible.append(slot)
            continue
        excluded.append((slot, why))
    if tag_filtering and eligible:
        return _tagged(eligible, excluded, request.tags)
    return eligible, excluded


def _tagged(
    eligible: list[Slot], excluded: list[Excluded], tags: frozenset[str]
) -> tuple[list[Slot], list[Excluded]]:
    """Any common tag will do; else, and for requests without tags, the default deployments.

    A request without tags may go anywhere where nothing is tagged as default.
    """
    wanted = [slot for slot in eligible if not tags.isdisjoint(slot.deployment.tags)]
    if not wanted:
        wanted = [slot for slot in eligible if DEFAULT_TAG in slot.deployment.tags]
        if not wanted and not tags:
            return eligible, excluded
    out = [(slot, Why.TAGS) for slot in eligible if slot not in wanted]
    return wanted, excluded + out


def outside_profile(deployment: Deployment, profile: Profile) -> bool:
    """Whether a profile's lasting conditions (models, capabilities, free) rule a deployment out."""
    facts = deployment.facts
    if profile.models is not None and not any(
        fnmatchcase(deployment.group, pattern) for pattern in profile.models
    ):
        return True
    if profile.require and not profile.require <= (facts.capabilities or frozenset()):
        return True
    return profile.free_only and not (
        facts.input_usd_per_token == 0.0 and (facts.output_usd_per_token or 0.0) == 0.0
    )


def exclusion(slot: Slot, why: Why, request: RoutingRequest) -> Exclusion:
    """The reason in words, with the figures."""
    reason: str = why
    if why is Why.CAPABILITY:
        reason = f"lacks {missing(slot, request.needs)}"
    elif why is Why.CONTEXT:
        window = slot.deployment.facts.context_tokens
        reason = f"context window of {window} tokens, request of about {request.input_tokens}"
    return Exclusion(deployment_id=slot.id, reason=reason)


def missing(slot: Slot, needs: Iterable[Capability]) -> str:
    """The needed capabilities that a deployment lacks."""
    return ", ".join(sorted(set(needs) - (slot.capabilities or frozenset())))


def summary(excluded: Sequence[Excluded]) -> str:
    """For example "2 with an open circuit breaker, 1 already tried"."""
    counts = Counter(why for _, why in excluded)
    return ", ".join(f"{count} {why}" for why, count in counts.most_common())
