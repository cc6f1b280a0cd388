"""What a request passes between being parsed and being called: rights, experiment, conversation, limits.

Security (rights, closed limits) fails closed; affinity, experiments and open limits fail open. The synchronous
parts cost a few microseconds; a store is awaited only where this worker does not know enough.
"""

from __future__ import annotations

from dataclasses import replace

from routeiq.access.limits import Limiter
from routeiq.access.principal import Principal
from routeiq.exceptions import PermissionDenied
from routeiq.experiments.live import Experiments
from routeiq.experiments.running import Arm
from routeiq.experiments.shadow import under
from routeiq.gateway.trace import Trace
from routeiq.routing.affinity import UNKNOWN, Affinity, conversation_key
from routeiq.routing.catalog import Catalog
from routeiq.routing.load import LoadTracker
from routeiq.types import Decision, RoutingRequest


class Gate:
    """One for all requests of a runtime."""

    def __init__(
        self,
        *,
        limiter: Limiter,
        affinity: Affinity | None,
        experiments: Experiments,
        load: LoadTracker,
        catalog: Catalog,
    ) -> None:
        self._limiter = limiter
        self._affinity = affinity
        self._experiments = experiments
        self._lengths = load.lengths
        self._catalog = catalog

    def greet(self, principal: Principal) -> None:
        """Turn a caller away at once whose limits are known to be used up.

        Raises:
            RateLimitExceeded: they are.
        """
        if principal.rules:
            self._limiter.check(principal)

    def enter(self, trace: Trace, request: RoutingRequest) -> RoutingRequest:
        """The request as its caller may make it, and as the experiment that it is in changes it.

        Raises:
            PermissionDenied: a profile that the key may not ask for.
        """
        principal = trace.principal
        if principal is not None and not principal.admin:
            request = entitled(principal, request)
            if principal.profiles is not None and request.profile is None:
                named = self._catalog.named_profile(request.model)
                if named is not None and not principal.may_profile(named):
                    raise profile_denied(named, "model")
        if principal is None:
            return request
        assignment = self._experiments.assign(
            request, key_id=principal.key_id, user=principal.user, team=principal.team
        )
        if assignment is None or not self._open_to(principal, assignment.arm):
            return request
        trace.assignment, trace.asked = assignment, request
        return under(request, assignment.arm)

    def _open_to(self, principal: Principal, arm: Arm) -> bool:
        """Whether the caller may use what a variant puts in place: an experiment gives nobody more rights."""
        profile = arm.profile
        if profile is None and arm.model is not None:
            profile = self._catalog.named_profile(arm.model)
        if profile is not None and not principal.may_profile(profile):
            return False
        return arm.model is None or principal.access is None or principal.access.allows(arm.model)

    async def recall(self, trace: Trace, request: RoutingRequest) -> RoutingRequest:
        """The request with the deployment that its conversation stays with."""
        affinity = self._affinity
        if affinity is None or request.session_id is None:
            return request
        principal = trace.principal
        tenant = principal.tenant if principal is not None else ""
        key = trace.conversation = conversation_key(tenant, request.session_id, request.model)
        found = affinity.get(key)
        if found is UNKNOWN:
            found = await affinity.fetch(key)
        return replace(request, stick=found) if isinstance(found, str) else request

    async def take(self, trace: Trace, request: RoutingRequest, decision: Decision) -> None:
        """Reserve what the request will use.

        Raises:
            RateLimitExceeded: a limit or a budget is used up.
            StateUnavailable: a limit that fails closed cannot be looked up.
        """
        principal = trace.principal
        if principal is None or not principal.rules:
            return
        chosen = decision.ranking[0]
        tokens = request.input_tokens
        if request.operation != "embeddings":
            length = self._lengths.of(chosen.deployment.group)
            tokens += int(length.expected(request.max_output_tokens, request.choices))
        limiter = self._limiter
        ticket = limiter.admit(principal, tokens=tokens, cost_usd=chosen.cost_usd)
        if ticket is None:
            ticket = await limiter.admit_slowly(principal, tokens=tokens, cost_usd=chosen.cost_usd)
        trace.ticket = ticket
        trace.limit_headers = limiter.headers(ticket)

    def commit(self, trace: Trace, decision: Decision) -> None:
        """The decision is about to be carried out: now the conversation is bound and the exposure counts."""
        if trace.conversation is not None and self._affinity is not None:
            stick = None if trace.request is None else trace.request.stick
            self._affinity.put(trace.conversation, decision.chosen.id, stick)
        if trace.assignment is not None:
            self._experiments.exposed(trace.assignment)

    def leave(self, trace: Trace) -> None:
        """The request is over, however it went. Never raises, never waits."""
        ticket = trace.ticket
        if ticket is not None:
            usage = trace.usage
            tokens = None
            if usage is not None and usage.input_tokens is not None:
                tokens = usage.input_tokens + (usage.output_tokens or 0)
            self._limiter.settle(
                ticket, tokens=tokens, cost_usd=trace.cost_usd, answered=answered(trace)
            )
        answered_by, decision = trace.answered_by, trace.decision
        if answered_by is None or decision is None or self._affinity is None:
            return
        if not answered(trace):
            return  # a conversation does not move to what failed
        if trace.conversation is not None and answered_by is not decision.chosen:
            self._affinity.put(trace.conversation, answered_by.id)
        if trace.response_id is not None and trace.request is not None:
            tenant = trace.principal.tenant if trace.principal is not None else ""
            key = conversation_key(tenant, trace.response_id, trace.request.model)
            self._affinity.put(key, answered_by.id)


def answered(trace: Trace) -> bool:
    """Whether a provider began to answer: then it has its price, though the client left or the stream was cut."""
    if trace.answered_by is None:
        return False
    return trace.kind != "error" or trace.first_token_ms is not None


def entitled(principal: Principal, request: RoutingRequest) -> RoutingRequest:
    """The request with its key's rights and tags.

    Raises:
        PermissionDenied: a profile that the key may not ask for.
    """
    if request.profile is not None and not principal.may_profile(request.profile):
        raise profile_denied(request.profile, "x-routeiq-profile")
    hint = request.hint if principal.may_hint else None
    if not (principal.access or principal.tags or hint is not request.hint):
        return request
    return replace(request, access=principal.access, tags=request.tags | principal.tags, hint=hint)


def profile_denied(name: str, param: str) -> PermissionDenied:
    """The error for a profile that the key may not ask for."""
    return PermissionDenied(f"This key may not use the profile {name[:100]!r}.", param=param)
