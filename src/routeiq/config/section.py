"""The strict `routeiq:` section of config.yaml. Every default stands here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from routeiq.types import Capability

from .access import Access
from .base import Fraction, NonNegative, PositiveUSD, Seconds, Section
from .experiments import Experiment
from .state import Affinity, DecisionStore, State


class StrategyChoice(Section):
    """A strategy by name, with its options."""

    name: str
    """A name that `routeiq.registry` knows."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The strategy's own options; unknown ones are errors."""


def _strategy_form(value: Any) -> str:
    return "<name>" if isinstance(value, str) else "<options>"


# The tags name the form that was written, so that one mistake is reported once, not once per form.
Strategy = Annotated[
    Annotated[StrategyChoice, Tag("<options>")] | Annotated[str, Tag("<name>")],
    Discriminator(_strategy_form),
]


class Guarantee(Section):
    """A certified promise: not worse than a reference model by more than `epsilon`.

    The active artifact must hold a certificate for it (`routeiq models calibrate`); without one, or where the
    strategy has none, only the reference answers: quality fails closed.
    """

    reference: str
    """The model group to which answers are compared."""
    epsilon: Fraction = 0.01
    """Largest loss of mean quality, 0 to 1."""
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """How likely the promise may be broken."""


class Budget(Section):
    """Money to spend as well as possible: the cost weight is steered so that spending meets the target."""

    usd: PositiveUSD | None = None
    """USD per period; give this or `usd_per_request`."""
    per: Literal["hour", "day", "week", "month"] = "day"
    """The period of `usd`."""
    usd_per_request: PositiveUSD | None = None
    """Mean USD per request; give this or `usd`."""
    scope: Literal["global", "key"] = "global"
    """One budget for all requests under the profile, or one for each API key."""

    @model_validator(mode="after")
    def _one_target(self) -> Budget:
        if (self.usd is None) == (self.usd_per_request is None):
            raise ValueError("give exactly one of usd and usd_per_request")
        return self


class Profile(Section):
    """What "good" means for a request: which models may answer, and how quality, cost and latency trade.

    The choice maximises `score - cost_weight * cost in USD - latency_weight * seconds to first token`
    among candidates whose score reaches `min_quality`; where none does, the best score is taken.
    """

    description: str = ""
    """Shown by `routeiq check` and the admin API."""
    models: tuple[str, ...] | None = None
    """Model groups (globs) that may answer; all by default."""
    require: frozenset[Capability] = frozenset()
    """Capabilities that a model must be known to have."""
    free_only: bool = False
    """Only models whose price is known and zero."""
    min_quality: Fraction | None = None
    """Lowest predicted quality that is good enough."""
    max_cost_usd: NonNegative | None = None
    """Highest predicted cost of one request."""
    cost_weight: NonNegative = 20.0
    """How much predicted quality (0 to 1) one US dollar is worth: 20 means 0.05 USD is worth 1.0."""
    latency_weight: NonNegative = 0.0
    """How much predicted quality one second to the first token is worth."""
    guarantee: Guarantee | None = None
    """Only models that are certified to be no worse than a reference may stand in for it."""
    budget: Budget | None = None
    """Steers `cost_weight` so that spending meets a target; `cost_weight` is where it starts."""
    strategy: Strategy | None = None
    """Overrides `routeiq.strategy` under this profile."""

    @model_validator(mode="after")
    def _only_what_was_certified(self) -> Profile:
        if self.guarantee is not None and self.latency_weight:
            raise ValueError(
                "a guarantee is certified for quality and cost: leave latency_weight at 0"
            )
        return self


BUILTIN_PROFILES: dict[str, Profile] = {
    "auto": Profile(description="Balanced: quality against cost."),
    "eco": Profile(
        description="The cheapest model that is good enough.", min_quality=0.6, cost_weight=1000.0
    ),
    "premium": Profile(description="The best predicted answer at any price.", cost_weight=0.0),
    "free": Profile(description="Only models that cost nothing.", free_only=True),
    "reasoning": Profile(
        description="Only models known to reason.",
        require=frozenset({Capability.REASONING}),
        cost_weight=2.0,
    ),
}


class RoutingGroup(Section):
    """A name that clients can ask for and that stands for several model groups."""

    models: tuple[str, ...] = Field(min_length=1)
    """Model groups, or globs of them."""
    strategy: Strategy | None = None
    """Overrides `routeiq.strategy` for this group."""
    profile: str | None = None
    """The profile where the request names none."""


class Upstreams(Section):
    """How the native lane talks to providers."""

    connect_timeout_s: Seconds = 5.0
    """DNS, TCP and TLS together."""
    first_byte_timeout_s: Seconds = 600.0
    """From the request being written to the response head."""
    idle_timeout_s: Seconds = 120.0
    """Longest silence inside a response body."""
    total_timeout_s: Seconds | None = None
    """Longest whole call."""
    max_connections: Annotated[int, Field(ge=1)] = 1000
    """Open connections per origin and worker; more wait."""
    keepalive_s: Seconds = 30.0
    """How long an idle connection is kept; below the provider's own limit."""
    ca_file: str | None = None
    """PEM bundle beside the system's certificate authorities."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Largest answer that is not a stream; a larger one counts as a failure of the provider."""
    proxy_url: Annotated[str, Field(pattern=r"^http://[^\s]+$")] | None = None
    """HTTP proxy for every call upstream, `http://[user:password@]host:port`. HTTPS_PROXY is not read."""
    no_proxy: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """Hosts that are reached directly; a name stands for all below it too."""
    check_addresses: bool = False
    """Apply the address rules of ROUTEIQ_SSRF_* to the operator's own `api_base` URLs too."""


class Resilience(Section):
    """Retries, hedging, and the window of the circuit breakers."""

    retry_budget: Fraction = 0.2
    """Retries may be at most this share of recent requests, so that they cannot double an outage."""
    backoff_base_s: NonNegative = 0.25
    """First pause between two attempts at the same deployment; doubles, with full jitter."""
    backoff_max_s: NonNegative = 8.0
    """Longest pause, and longest `Retry-After` that is waited for."""
    breaker_window_s: Seconds = 60.0
    """Failures older than this no longer count towards opening a breaker."""
    hedge_after_s: Seconds | None = None
    """Ask the next candidate too when the first token takes longer than this; off by default."""


class Server(Section):
    """What the gateway accepts."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    """Largest request body, after decompression; larger gets 413."""
    decision_log_size: Annotated[int, Field(ge=0)] = 1000
    """Decision records kept in memory per worker for the admin API."""
    access_log: bool = True
    """One JSON line per request on stdout."""


class Learning(Section):
    """What learned strategies may take, and what is written down for the next one."""

    time_budget_ms: Annotated[float, Field(gt=0.0)] = 5.0
    """CPU time; a strategy that scores for longer five times within half a minute gives way to `prior` as long."""
    prepare_timeout_ms: Annotated[float, Field(gt=0.0)] = 3000.0
    """Longest wait for what a strategy computes or asks before it scores (embedding models, judges)."""
    decision_log: str | None = None
    """Folder for decision records with their features, and for feedback: the data of `routeiq replay` and of the
    next training. Not written by default."""
    log_text: bool = False
    """Write the prompt's text too. Off by default: features and a hash are enough for training."""
    log_features: bool = True
    """Write the feature vector of each prompt."""
    log_max_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024 * 1024
    """Size at which a worker's file of the decision log is replaced by a new one."""
    log_files: Annotated[int, Field(ge=1)] = 8
    """Files that are kept per worker; older ones are deleted."""
    poll_s: Seconds = 1.0
    """How often a worker looks whether another artifact was activated, and for feedback of other workers."""


class Price(Section):
    """An operator's own figures for a model; they win over the bundled table."""

    input_usd_per_mtok: NonNegative | None = None
    """USD per million input tokens."""
    output_usd_per_mtok: NonNegative | None = None
    """USD per million output tokens."""
    cached_input_usd_per_mtok: NonNegative | None = None
    """USD per million input tokens read from the provider's prompt cache."""
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    """Context window, input and output together."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer."""
    quality: Fraction | None = None
    """Quality in [0, 1], comparable between models."""


class RouteIQSection(Section):
    """Everything under `routeiq:`."""

    version: Literal[1] = 1
    """Version of this section's layout."""
    strategy: Strategy | None = None
    """Strategy for `auto` and routing groups; ROUTEIQ_STRATEGY wins."""
    profile: str = "auto"
    """Profile where neither the request nor its group names one."""
    profiles: dict[str, Profile] = Field(default_factory=dict)
    """The operator's own profiles, beside (or instead of) auto, eco, premium, free and reasoning."""
    groups: dict[str, RoutingGroup] = Field(default_factory=dict)
    """The operator's own routing groups. `auto` (every chat model) exists unless it is defined here."""
    balancing: Strategy | None = None
    """Strategy within one model group; otherwise `router_settings.routing_strategy`, else round-robin."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Model name (as sent upstream, with or without provider prefix, or a model group) to figures."""
    upstreams: Upstreams = Upstreams()
    """Timeouts and connections to providers."""
    resilience: Resilience = Resilience()
    """Retries, hedging, breakers."""
    access: Access = Access()
    """Keys, users and teams that are declared here, and what holds for every key."""
    experiments: dict[str, Experiment] = Field(default_factory=dict)
    """Experiments by name; the admin API can change and add some."""
    affinity: Affinity = Affinity()
    """Keeping a conversation with the deployment that has its prompt cached."""
    decisions: DecisionStore = DecisionStore()
    """The store of decision records and feedback."""
    state: State = State()
    """How the stores are used: time-outs, pools, leases."""
    learning: Learning = Learning()
    """Learned strategies: time budgets, the decision log, reloading."""
    server: Server = Server()
    """Limits of the gateway itself."""

    def all_profiles(self) -> dict[str, Profile]:
        """Built-in profiles with the operator's on top."""
        return {**BUILTIN_PROFILES, **self.profiles}
