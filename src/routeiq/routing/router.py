"""The decision: from a request to an ordered list of deployments, and why. Pure but for its books."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from routeiq.config.model import Config
from routeiq.exceptions import (
    ConfigError,
    ContextLengthExceeded,
    InvalidRequest,
    NoHealthyDeployment,
    Problem,
    RequestError,
)
from routeiq.ports import Clock
from routeiq.types import Candidate, Decision, LoadContext, Outcome, RoutingRequest

from .catalog import Catalog, unknown_profile
from .eligibility import Excluded, Slot, Why, exclusion, missing, select, summary
from .load import LoadTracker
from .objective import known_costs
from .plan import Plan, candidates, make_plan
from .ranking import Ranker
from .strategy_set import StrategySet

DEFAULT_STRATEGY = "complexity"
PLAN_CACHE_SIZE = 1024
_NO_IDS: frozenset[str] = frozenset()
_HEALTH = frozenset({Why.BREAKER, Why.TRIED})


class Health(Protocol):
    """What the router asks the circuit breakers."""

    def allows(self, id: str) -> bool:
        """Whether a call to this deployment may be made now."""

    def retry_after_s(self, id: str) -> float:
        """Seconds until it may be."""


class Router:
    """Decides. Eligibility, predictions and errors are here; how the eligible are ordered is `Ranker`'s.

    Making one makes and loads every strategy that the configuration names; `close` releases them.

    Raises:
        ConfigError: unknown strategies, options or profiles.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        config: Config,
        load: LoadTracker,
        breakers: Health,
        clock: Clock,
        rng: Random | None = None,
    ) -> None:
        section = config.routeiq
        self._catalog = catalog
        self._section = section
        self._profiles = section.all_profiles()
        self._load = load
        self._breakers = breakers
        self._monotonic = clock.monotonic
        self._rng = rng or Random()
        self._tag_filtering = config.router.tag_filtering
        self._default = config.settings.strategy or section.strategy or DEFAULT_STRATEGY
        self._balancing = section.balancing or config.router.balancing
        self._plans: dict[tuple[str, str | None], Plan] = {}
        if section.profile not in self._profiles:
            message = str(unknown_profile(section.profile, self._profiles))
            raise ConfigError([Problem(key="routeiq.profile", message=message)])
        self._strategies = StrategySet(
            {
                "routeiq.strategy": self._default,
                "routeiq.balancing": self._balancing,
                **{f"routeiq.profiles.{n}.strategy": p.strategy for n, p in self._profiles.items()},
                **{f"routeiq.groups.{n}.strategy": g.strategy for n, g in section.groups.items()},
            },
            LoadContext(deployments=catalog.deployments, models_path=config.settings.models_path),
        )
        balancing = self._strategies.get(self._balancing)
        self._ranker = Ranker(self._strategies, balancing, self._rng)
        self.strategy_name = self._strategies.get(self._default).name
        self.balancing_name = balancing.name

    @property
    def strategy_failures(self) -> dict[str, int]:
        """How often each strategy raised or broke its contract."""
        return dict(self._strategies.failures)

    def close(self) -> None:
        """Release what the strategies hold."""
        self._strategies.close()

    def decide(
        self,
        request: RoutingRequest,
        *,
        exclude: frozenset[str] = _NO_IDS,
        model: str | None = None,
    ) -> Decision:
        """Choose and order the deployments for a request.

        `exclude` are ids of deployments that were tried already; `model` stands in for the request's own
        model when falling back.

        Raises:
            ModelNotFound: no such model.
            InvalidRequest: no such profile, or no model can take the request whatever its health
                (`ContextLengthExceeded` where it is too long).
            NoHealthyDeployment: those that could take it are unhealthy or were tried.
        """
        started = self._monotonic()
        name = request.model if model is None else model
        plan = self._plans.get((name, request.profile))
        if plan is None:
            plan = self._plan(name, request.profile)
        routed = plan.target.routed
        slots, excluded = select(
            plan.slots,
            request,
            allows=self._breakers.allows,
            exclude=exclude,
            routed=routed,
            tag_filtering=self._tag_filtering,
        )
        field = candidates(slots, request, started)
        if routed and plan.profile.max_cost_usd is not None:
            field = _within(plan.profile.max_cost_usd, slots, field, excluded)
        if not field:
            raise self._nobody(name, request, [*excluded, *plan.ruled_out])
        rank = self._ranker.route if routed else self._ranker.balance
        ranking, strategy, reason, hinted = rank(plan, request, field)
        if model is not None:
            reason = f"fallback to {name}: {reason}"
        return Decision(
            id=f"{self._rng.getrandbits(96):024x}",
            requested=request.model,
            strategy=strategy,
            reason=reason,
            ranking=tuple(ranking),
            exclusions=tuple([exclusion(slot, why, request) for slot, why in excluded])
            + plan.ruled_out_in_words,
            profile=plan.profile_name,
            hint_followed=hinted,
            propensity=None if routed and plan.strategy.traits.randomised else 1.0,
            duration_ms=(self._monotonic() - started) * 1e3,
        )

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Let the strategy that decided learn from what happened."""
        self._strategies.observe(decision, outcome)

    def _plan(self, name: str, asked: str | None) -> Plan:
        if asked is not None and asked not in self._profiles:
            raise unknown_profile(asked, self._profiles, param="x-routeiq-profile")
        target = self._catalog.resolve(name)
        profile_name = asked or target.profile or self._section.profile
        profile = self._profiles[profile_name]
        choice = profile.strategy or target.strategy or self._default
        strategy = self._strategies.get(choice if target.routed else self._balancing)
        plan = make_plan(target, profile_name, profile, strategy, self._load)
        if len(self._plans) >= PLAN_CACHE_SIZE:
            self._plans.clear()
        self._plans[name, asked] = plan
        return plan

    def _nobody(
        self, name: str, request: RoutingRequest, excluded: Sequence[Excluded]
    ) -> RequestError:
        """The error for a request that nobody may take: ours to wait for, or the caller's to change."""
        reasons = {why for _, why in excluded}
        said = f"No deployment of {name[:100]!r} can take this request: {summary(excluded)}."
        if reasons & _HEALTH:
            waits = [
                self._breakers.retry_after_s(s.id) for s, why in excluded if why is Why.BREAKER
            ]
            return NoHealthyDeployment(said, retry_after_s=min(waits, default=None))
        if Why.CONTEXT in reasons:
            largest = max(s.deployment.facts.context_tokens or 0 for s, why in excluded)
            return ContextLengthExceeded(
                f"{said} It has about {request.input_tokens} tokens, the largest window {largest}.",
                param="messages" if request.operation == "chat" else "input",
            )
        lacking = sorted(
            {missing(s, request.needs) for s, why in excluded if why is Why.CAPABILITY}
        )
        return InvalidRequest(
            said + (f" Missing: {', '.join(lacking)}." if lacking else ""), param="model"
        )


def _within(
    limit: float, slots: list[Slot], field: list[Candidate], excluded: list[Excluded]
) -> list[Candidate]:
    """The candidates whose predicted cost is at most `limit` USD; notes the others as excluded."""
    costs = known_costs([candidate.cost_usd for candidate in field])
    kept = []
    for slot, candidate, cost in zip(slots, field, costs, strict=True):
        if cost <= limit:
            kept.append(candidate)
        else:
            excluded.append((slot, Why.COST))
    return kept
