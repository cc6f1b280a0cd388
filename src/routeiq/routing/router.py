"""The decision: from a request to an ordered list of deployments, and why. Pure but for its books."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

from routeiq.artifacts.errors import ArtifactError
from routeiq.artifacts.store import ArtifactStore
from routeiq.base import Ask, RoutingStrategy
from routeiq.config.model import Config
from routeiq.config.section import StrategyChoice
from routeiq.exceptions import (
    ConfigError,
    Problem,
)
from routeiq.ports import Clock
from routeiq.types import (
    Candidate,
    Decision,
    Deployment,
    JsonObject,
    LoadContext,
    Outcome,
    RoutingRequest,
)

from .budget import budgets_for
from .catalog import Catalog, unknown_profile
from .eligibility import Excluded, Slot, Why, exclusion, select
from .load import LoadTracker
from .objective import known_costs
from .plan import Plan, candidates, make_plan
from .ranking import Ranker, sticking
from .refusal import nobody
from .strategy_set import StrategySet

_log = logging.getLogger(__name__)
DEFAULT_STRATEGY = "prior"
TRAINED_STRATEGY = "hybrid"
"""What `auto` uses once such an artifact is active and nobody configured another strategy (decision 9)."""
PLAN_CACHE_SIZE = 1024
_NO_IDS: frozenset[str] = frozenset()


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
        verifier: object = None,
        open_features: Callable[[str], Any] | None = None,
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
        self._configured = config.settings.strategy or section.strategy
        self._active: StrategyChoice | str | None = None
        self._artifacts = ArtifactStore(Path(config.settings.models_path))
        self._default: StrategyChoice | str = self._configured or self._best()
        self._prepare_s = section.learning.prepare_timeout_ms / 1e3
        workers = config.settings.workers or 1
        self._budgets = {
            name: budgets_for(profile.budget, profile.cost_weight, workers=workers, clock=clock)
            for name, profile in self._profiles.items()
            if profile.budget is not None
        }
        self._balancing = section.balancing or config.router.balancing
        self._plans: dict[tuple[str, str | None, str | None], Plan] = {}
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
            LoadContext(
                deployments=catalog.deployments,
                models_path=config.settings.models_path,
                verifier=verifier,
                open_features=open_features,
            ),
            fallback=DEFAULT_STRATEGY,
            clock=clock,
            time_budget_s=section.learning.time_budget_ms / 1e3,
        )
        load.lengths.expect(self._strategies.expected_output_tokens())
        balancing = self._strategies.get(self._balancing)
        self._ranker = Ranker(self._strategies, balancing, self._rng)
        self.balancing_name = balancing.name

    @property
    def strategy_name(self) -> str:
        """The strategy of `auto` and of routing groups that name none."""
        return self._strategies.get(self._active or self._default).name

    def activate(self, strategy: StrategyChoice | str | None) -> None:
        """Use this as the default strategy, whatever is configured; `None`: what is configured again.

        Profiles and groups with a strategy of their own keep it. Blocks while it loads: run it in a thread.

        Raises:
            ConfigError: there is no such strategy, or it cannot be loaded; what was there stays.
        """
        if strategy is not None:
            self._strategies.ensure(strategy)
        self._active = strategy
        self._plans = {}

    def ensure(self, strategy: StrategyChoice | str) -> None:
        """Load a strategy that requests may name (`RoutingRequest.strategy`). Blocks.

        Raises:
            ConfigError: there is no such strategy, or it cannot be loaded.
        """
        self._strategies.ensure(strategy)

    @property
    def strategy_failures(self) -> dict[str, int]:
        """How often each strategy raised or broke its contract."""
        return dict(self._strategies.failures)

    @property
    def strategy_suspensions(self) -> dict[str, int]:
        """How often each strategy was set aside for taking too long."""
        return self._strategies.slow

    def strategy_reports(self) -> dict[str, JsonObject]:
        """What each strategy that runs says about itself."""
        return self._strategies.reports()

    def budget_reports(self) -> dict[str, JsonObject]:
        """Spending against target, by profile."""
        return {name: budgets.report() for name, budgets in self._budgets.items()}

    def reload(self) -> list[str]:
        """Let the strategies take newly activated artifacts; the names of those that changed.

        Blocks: run it in a thread. Requests are served meanwhile, by what was there before.

        Raises:
            ConfigError: an artifact cannot be used; what was there stays.
        """
        changed = self._strategies.reload()
        if self._configured is None:
            best = self._best()
            if best != self._default:
                self._strategies.ensure(best)
                self._default = best
                self._plans = {}
                changed.append(best)
        if changed:
            self._load.lengths.expect(self._strategies.expected_output_tokens())
        return changed

    def take_over(self, old: Router) -> None:
        """Go on with what another router has learned and spent, as far as the same is configured here."""
        self._strategies.take_over(old._strategies)
        for name, budgets in old._budgets.items():
            mine, theirs = self._profiles.get(name), old._profiles[name]
            if mine is not None and (mine.budget, mine.cost_weight) == (
                theirs.budget,
                theirs.cost_weight,
            ):
                self._budgets[name] = budgets

    def strategy_names(self) -> list[str]:
        """The strategies that may depend on what is active: those that run, and what `auto` would use."""
        return sorted({TRAINED_STRATEGY, *self._strategies.names()})

    def _best(self) -> str:
        """What `auto` uses where nobody configured it. A store that cannot be read is no reason to stop."""
        try:
            trained = self._artifacts.active(TRAINED_STRATEGY) is not None
        except ArtifactError as error:
            _log.error("the artifact store cannot be read", extra={"error": str(error)})
            trained = False
        return TRAINED_STRATEGY if trained else DEFAULT_STRATEGY

    def is_slow(self, request: RoutingRequest) -> bool:
        """Whether the strategy prepares, or takes so long that it must leave the event loop."""
        if not self._strategies.any_slow:  # mostly: spares every request the look-up
            return False
        strategy = self._strategy_of(request)
        return strategy.traits.cpu_bound or self._strategies.prepares(strategy)

    def is_cpu_bound(self, request: RoutingRequest) -> bool:
        """Whether `decide` takes so long that it must leave the event loop."""
        return self._strategy_of(request).traits.cpu_bound

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        """Give the strategy its time before it scores, bounded; whatever goes wrong, `decide` can do without."""
        strategy = self._strategy_of(request)
        if self._strategies.prepares(strategy):
            await self._strategies.prepare(strategy, request, ask, self._prepare_s)

    def _strategy_of(self, request: RoutingRequest) -> RoutingStrategy:
        key = (request.model, request.profile, request.strategy)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(*key)
        return plan.strategy

    def verifier_of(self, request: RoutingRequest, decision: Decision) -> RoutingStrategy | None:
        """The strategy that wants to see the answers to this decision before the client does, if it does."""
        verifiers = self._strategies.verifiers
        if not verifiers:
            return None
        # The request's own first: several may have the same name and other options.
        for strategy in (self._strategy_of(request), *verifiers):
            if strategy.name == decision.strategy and strategy.traits.verifies:
                return strategy
        return None

    def accepts(
        self,
        strategy: RoutingStrategy,
        request: RoutingRequest,
        answers: Sequence[tuple[Deployment, JsonObject]],
    ) -> bool:
        """Whether the last answer is good enough; yes where the strategy failed, availability fails open."""
        return self._strategies.accepts(strategy, request, answers)

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
        key = (name, request.profile, request.strategy)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(*key)
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
            raise nobody(name, request, [*excluded, *plan.ruled_out], self._breakers.retry_after_s)
        ranked = (self._ranker.route if routed else self._ranker.balance)(plan, request, field)
        if request.stick is not None and not ranked.hinted:
            certified = plan.profile.guarantee is not None
            ranked = sticking(ranked, request.stick, field, certified=certified)
        reason = ranked.reason
        if model is not None:
            reason = f"fallback to {name}: {reason}"
        return Decision(
            id=f"{self._rng.getrandbits(96):024x}",
            requested=request.model,
            strategy=ranked.strategy,
            reason=reason,
            ranking=tuple(ranked.entries),
            exclusions=tuple([exclusion(slot, why, request) for slot, why in excluded])
            + plan.ruled_out_in_words,
            profile=plan.profile_name,
            hint_followed=ranked.hinted,
            propensity=ranked.propensity,
            propensities=ranked.propensities,
            explored=ranked.explored,
            duration_ms=(self._monotonic() - started) * 1e3,
        )

    def commit(self, request: RoutingRequest, decision: Decision) -> None:
        """A decision is about to be carried out: the budget counts its predicted cost until it is known."""
        budgets = self._budgets.get(decision.profile or "") if self._budgets else None
        if budgets is not None:
            budgets.commit(request.caller, decision.ranking[0].cost_usd)

    def observe(self, request: RoutingRequest, decision: Decision, outcome: Outcome) -> None:
        """Let the strategy that decided learn from what happened, and the books see lengths and costs."""
        usage, answered = outcome.usage, outcome.deployment
        if usage is not None and usage.output_tokens and answered is not None:
            tokens = usage.output_tokens // request.choices
            self._load.lengths.of(answered.group).add(tokens)
        self._strategies.observe(decision, outcome)
        budgets = self._budgets.get(decision.profile or "") if self._budgets else None
        if budgets is not None:
            committed = decision.ranking[0].cost_usd
            budgets.settle(request.caller, _spent(outcome, committed), committed)

    def learn(self, request: RoutingRequest, decision: Decision, reward: float) -> int:
        """Feedback on the answer to a request, in [0, 1]; how many strategies learned from it."""
        return self._strategies.learn(request, decision, reward)

    def _plan(self, name: str, asked: str | None, override: str | None) -> Plan:
        if asked is not None and asked not in self._profiles:
            raise unknown_profile(asked, self._profiles, param="x-routeiq-profile")
        target = self._catalog.resolve(name)
        profile_name = asked or target.profile or self._section.profile
        profile = self._profiles[profile_name]
        default = self._active or self._default
        choice = override or profile.strategy or target.strategy or default
        strategy = self._strategies.get(choice if target.routed else self._balancing)
        budgets = self._budgets.get(profile_name) if target.routed else None
        plan = make_plan(target, profile_name, profile, strategy, self._load, budgets)
        if len(self._plans) >= PLAN_CACHE_SIZE:
            self._plans.clear()
        self._plans[name, asked, override] = plan
        return plan


def _spent(outcome: Outcome, predicted_usd: float | None) -> float:
    """What a request cost in USD; a failure nothing, an answer whose cost was not told as predicted."""
    if outcome.cost_usd is not None:
        return outcome.cost_usd
    refused = outcome.kind == "error" and outcome.first_token_ms is None
    if refused or outcome.deployment is None:
        return 0.0
    return predicted_usd or 0.0


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
