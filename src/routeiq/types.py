"""Value objects that every layer speaks: frozen, slotted, keyword-only, without behaviour that needs I/O.

Units are in the names: `_usd`, `_tokens`, `_ms`, `_s`. `None` always means "not known", never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from routeiq.values import value

Operation = Literal["chat", "completions", "embeddings", "responses"]
Lane = Literal["native", "litellm"]


class Capability(StrEnum):
    """What a request can need and a model can have; a request never goes where one is missing."""

    TOOLS = "tools"
    PARALLEL_TOOLS = "parallel_tools"
    VISION = "vision"
    AUDIO_INPUT = "audio_input"
    AUDIO_OUTPUT = "audio_output"
    PDF = "pdf"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"


@value
class ModelFacts:
    """What is known about a model: prices, windows, capabilities. Unknown stays `None`.

    `capabilities` is `None` where nobody said: such a model is eligible for everything, because
    refusing a model that would have worked is worse than the provider's own clear error.
    `quality` is in [0, 1], comparable between models (declared, or looked up); `tier` is a name for it.
    """

    input_usd_per_token: float | None = None
    output_usd_per_token: float | None = None
    cached_input_usd_per_token: float | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[Capability] | None = None
    quality: float | None = None
    tier: str | None = None
    mode: str | None = None
    source: str = "unknown"


@value
class Deployment:
    """One place a model group can be called at: an entry of `model_list`, resolved.

    `group` is the name that clients ask for, `model` the name that is sent upstream. `weight`, `rpm`
    (requests per minute) and `tpm` (tokens per minute) steer weighted balancing; lower `order` goes first.
    """

    id: str
    group: str
    provider: str
    model: str
    lane: Lane = "native"
    facts: ModelFacts = ModelFacts()
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int = 0
    tags: frozenset[str] = frozenset()
    region: str | None = None


class GroupAccess(Protocol):
    """Which model groups a caller may use."""

    def allows(self, group: str) -> bool:
        """Whether this one."""
        ...


@value
class RoutingRequest:
    """What the router may know about a request, parsed once from its body and headers.

    `text` is what matters for routing (the last user turn), `input_tokens` an estimate that errs high,
    `choices` how many answers were asked for (OpenAI's `n`), `caller` the alias of the key that asks, `access`
    what it may use (`None`: everything). `stick` is the deployment that the conversation stays with if it can.
    `strategy` overrides the configured one, for the `variant` of an `experiment`.
    """

    id: str
    operation: Operation
    model: str
    text: str = ""
    system: str = ""
    turns: int = 1
    input_tokens: int = 0
    max_output_tokens: int | None = None
    choices: int = 1
    needs: frozenset[Capability] = frozenset()
    stream: bool = False
    profile: str | None = None
    tags: frozenset[str] = frozenset()
    region: str | None = None
    session_id: str | None = None
    hint: str | None = None
    caller: str | None = None
    access: GroupAccess | None = None
    stick: str | None = None
    strategy: str | None = None
    experiment: str | None = None
    variant: str | None = None


@value
class Candidate:
    """A deployment that is still eligible for this request, with what is predicted for it.

    `cost_usd` is the predicted cost of this request there, `latency_s` the expected time to the first
    token (an exponentially weighted mean of what was seen), `in_flight` the calls under way now.
    """

    deployment: Deployment
    cost_usd: float | None = None
    latency_s: float | None = None
    in_flight: int = 0


@value
class Ranked:
    """A candidate's place in a decision: its score, what the objective made of it."""

    deployment: Deployment
    score: float
    utility: float
    cost_usd: float | None = None
    latency_s: float | None = None


@value
class Exclusion:
    """A deployment that was not considered, and why, in words for a person."""

    deployment_id: str
    reason: str


@value
class Decision:
    """Which deployment is called, which come after it, and why.

    `ranking` is never empty; its first entry is the choice, the rest are the fallbacks in order.
    `propensity` is the probability with which the choice was made: 1 for a deterministic strategy, `None`
    where chance chose and the strategy cannot say how likely. `propensities` has the probability of each model
    group where the choice explored. Off-policy evaluation needs them. `explored` says that chance, not the
    objective, made this choice.
    """

    id: str
    requested: str
    strategy: str
    reason: str
    ranking: tuple[Ranked, ...]
    exclusions: tuple[Exclusion, ...] = ()
    profile: str | None = None
    hint_followed: bool | None = None
    propensity: float | None = 1.0
    propensities: Mapping[str, float] | None = None
    explored: bool = False
    duration_ms: float = 0.0

    @property
    def chosen(self) -> Deployment:
        """The deployment that is called first."""
        return self.ranking[0].deployment


@value
class Usage:
    """Tokens as the provider counted them; `None` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None


@value
class Attempt:
    """One call upstream. `status` is `None` where no response line arrived; `error` is our code for it."""

    deployment_id: str
    status: int | None
    duration_ms: float
    error: str | None = None


OutcomeKind = Literal["success", "error", "client_disconnected", "stream_cut"]


@value
class Outcome:
    """What really happened: the only source of headers, log line, metric, span and record.

    `deployment` is the one that answered (after any fallback), `None` if none did.
    """

    kind: OutcomeKind
    status: int
    deployment: Deployment | None
    attempts: tuple[Attempt, ...]
    latency_ms: float
    first_token_ms: float | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    error: str | None = None


@value
class StrategyTraits:
    """What the router must know about a strategy without running it.

    `scores` says what a score means: `quality` is comparable with a floor and a price (a predicted
    probability of a good answer), `preference` only orders the candidates of one call. `prepares` says that
    `prepare` must be awaited before `score`, `verifies` that `accept` must see an answer before the client does.
    """

    scores: Literal["quality", "preference"] = "quality"
    learns_online: bool = False
    needs_embedding: bool = False
    randomised: bool = False
    cpu_bound: bool = False
    prepares: bool = False
    verifies: bool = False
    maturity: Literal["stable", "experimental"] = "stable"


@value
class Margin:
    """What a certificate allows: models whose score is at least the reference's less `tau` may stand in for it.

    `deployments` are the ids of those that were certified; no other may.
    """

    tau: float
    deployments: frozenset[str]


JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadContext:
    """What a strategy may use while it loads: the deployments it will see and the artifact folder.

    `verifier` checks the signatures of artifacts (`routeiq.artifacts.signature`). `open_features` opens prompt
    features by name, by default `routeiq.embeddings.features.load_features`.
    """

    deployments: tuple[Deployment, ...]
    models_path: str
    verifier: Any = None
    open_features: Callable[[str], Any] | None = None
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
