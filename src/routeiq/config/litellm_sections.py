"""What RouteIQ reads of LiteLLM's own sections of config.yaml, under LiteLLM's names.

Names that are not declared here are looked up in litellm_options.yaml. `None` means "not written".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from routeiq.types import Capability

from .base import Fraction, NonNegative, Seconds, Section
from .section import RouteIQSection

Count = Annotated[int, Field(ge=0)]
# An id is sent in a response header.
HeaderSafe = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


def _fallbacks(value: Any) -> Any:
    """`[{model: [next, ...]}, ...]` as one mapping; a bare name is a fallback of every model (`*`)."""
    if not isinstance(value, list):
        raise ValueError("write a list such as `- gpt-4o: [gpt-4o-mini]`")
    merged: dict[str, list[Any]] = {}
    for entry in value:
        for group, names in (entry if isinstance(entry, dict) else {"*": [entry]}).items():
            merged.setdefault(group, []).extend(names if isinstance(names, list) else [names])
    return merged


def _alias(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


_FALLBACK_SCHEMA = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        ]
    },
}
Fallbacks = Annotated[
    dict[str, tuple[str, ...]], BeforeValidator(_fallbacks), WithJsonSchema(_FALLBACK_SCHEMA)
]

# LiteLLM's names of strategies to ours.
BALANCING = {
    "simple-shuffle": "weighted",
    "least-busy": "least-busy",
    "latency-based-routing": "lowest-latency",
    "cost-based-routing": "lowest-cost",
    "usage-based-routing": "least-busy",
    "usage-based-routing-v2": "least-busy",
}
RoutingStrategyName = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
]


class Read(BaseModel):
    """Base: names that are not declared are kept aside; a number may stand where text is meant."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class LiteLLMParams(Read):
    """`litellm_params` of a deployment: where it is called, and what is sent."""

    model: str
    custom_llm_provider: str | None = None
    api_key: str | None = None
    api_base: str | None = None
    base_url: str | None = None
    api_version: str | None = None
    organization: str | None = None
    azure_ad_token: str | None = None
    azure_ad_token_file: str | None = None
    headers: dict[str, str] | None = None
    extra_headers: dict[str, str] | None = None
    extra_body: dict[str, Any] | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    max_retries: Count | None = None
    num_retries: Count | None = None
    drop_params: bool | None = None
    additional_drop_params: tuple[str, ...] | None = None
    weight: NonNegative | None = None
    rpm: Count | None = None
    tpm: Count | None = None
    order: int | None = None
    tags: tuple[str, ...] | None = None
    region_name: str | None = None
    base_model: str | None = None
    input_cost_per_token: NonNegative | None = None
    output_cost_per_token: NonNegative | None = None
    cache_read_input_token_cost: NonNegative | None = None


class DeploymentFacts(Section):
    """`model_info.routeiq`: what RouteIQ should know about a deployment. Strict."""

    quality: Fraction | None = None
    tier: str | None = None
    tags: tuple[str, ...] = ()
    capabilities: frozenset[Capability] | None = None
    region: str | None = None


class ModelInfo(Read):
    """`model_info` of a deployment: facts that win over the bundled table. Other names are free."""

    id: HeaderSafe | None = None
    mode: str | None = None
    base_model: str | None = None
    max_tokens: Count | None = None
    max_input_tokens: Count | None = None
    max_output_tokens: Count | None = None
    input_cost_per_token: NonNegative | None = None
    output_cost_per_token: NonNegative | None = None
    cache_read_input_token_cost: NonNegative | None = None
    supports_function_calling: bool | None = None
    supports_parallel_function_calling: bool | None = None
    supports_vision: bool | None = None
    supports_audio_input: bool | None = None
    supports_audio_output: bool | None = None
    supports_pdf_input: bool | None = None
    supports_response_schema: bool | None = None
    supports_reasoning: bool | None = None
    routeiq: DeploymentFacts | None = None


class ModelEntry(Read):
    """One entry of `model_list`."""

    model_name: Annotated[str, Field(min_length=1)]
    litellm_params: LiteLLMParams
    model_info: ModelInfo | None = None


class ModelAlias(Read):
    """A further name of a model group."""

    model: str
    hidden: bool = False


Alias = Annotated[ModelAlias, BeforeValidator(_alias, json_schema_input_type=str | ModelAlias)]


class LiteLLMGroup(Read):
    """An entry of `routing_groups`: becomes one of `routeiq.groups`."""

    group_name: str
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    routing_strategy: RoutingStrategyName | None = None


class Reliability(Read):
    """What `router_settings` and `litellm_settings` have in common."""

    num_retries: Count | None = None
    max_fallbacks: Count | None = None
    allowed_fails: Count | None = None
    fallbacks: Fallbacks | None = None
    context_window_fallbacks: Fallbacks | None = None
    content_policy_fallbacks: Fallbacks | None = None
    default_fallbacks: tuple[str, ...] | None = None


class RouterSettings(Reliability):
    """`router_settings`; wins over `litellm_settings`."""

    routing_strategy: RoutingStrategyName | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    retry_after: NonNegative | None = None
    cooldown_time: NonNegative | None = None
    model_group_alias: dict[str, Alias] | None = None
    enable_tag_filtering: bool | None = None
    routing_groups: tuple[LiteLLMGroup, ...] | None = None


class LiteLLMSettings(Reliability):
    """`litellm_settings`."""

    request_timeout: Seconds | None = None
    drop_params: bool | None = None


class GeneralSettings(Read):
    """`general_settings`."""

    master_key: str | None = None


class ConfigFile(Read):
    """config.yaml: LiteLLM's file with one more section, `routeiq:`."""

    include: tuple[str, ...] = ()
    environment_variables: dict[str, str | bool | None] = Field(default_factory=dict)
    model_list: tuple[ModelEntry, ...] | None = None
    router_settings: RouterSettings = RouterSettings()
    litellm_settings: LiteLLMSettings = LiteLLMSettings()
    general_settings: GeneralSettings = GeneralSettings()
    routeiq: RouteIQSection = RouteIQSection()
