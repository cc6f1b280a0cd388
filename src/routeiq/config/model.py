"""What a configuration is once it has been read: plain, frozen data that says nothing about how it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routeiq.exceptions import Problem
from routeiq.types import ModelFacts

from .section import RouteIQSection
from .settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConfig:
    """One entry of `model_list`, with `os.environ/NAME` already replaced.

    `group` is `model_name` (may hold `*`), `model` is `litellm_params.model` as written, provider prefix
    included; `provider` is `custom_llm_provider` where given. `params` are the remaining
    `litellm_params`: defaults for the request body (temperature, max_tokens …). `facts` has only what
    the operator said; `base_model` is the name to look up the rest by. `file` is where it was written.
    """

    key: str
    id: str
    group: str
    model: str
    provider: str | None = None
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_version: str | None = None
    organization: str | None = None
    azure_ad_token: str | None = field(default=None, repr=False)
    azure_ad_token_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    drop_params: bool | None = None
    additional_drop_params: tuple[str, ...] = ()
    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    max_retries: int | None = None
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int = 0
    tags: frozenset[str] = frozenset()
    region: str | None = None
    base_model: str | None = None
    facts: ModelFacts = ModelFacts()
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """LiteLLM's `router_settings` and the parts of `litellm_settings` that steer calls."""

    balancing: str = "round-robin"
    num_retries: int = 2
    max_fallbacks: int = 5
    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    retry_after_s: float = 0.0
    allowed_fails: int | None = None
    cooldown_s: float | None = None
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context_window_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content_policy_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_fallbacks: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    hidden_aliases: frozenset[str] = frozenset()
    tag_filtering: bool = False
    drop_params: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything the operator said. `environ` is the snapshot from which secrets are looked up.

    `files` are the paths of config.yaml and what it includes.
    """

    settings: Settings
    deployments: tuple[DeploymentConfig, ...] = ()
    router: RouterConfig = RouterConfig()
    routeiq: RouteIQSection = RouteIQSection()
    master_key: str | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    source: str = "environment"
    digest: str = ""
    files: tuple[str, ...] = ()
    notes: tuple[Problem, ...] = ()
