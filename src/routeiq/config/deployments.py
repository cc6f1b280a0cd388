"""Entries of `model_list` as `DeploymentConfig`: ids, facts, body parameters."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from routeiq.exceptions import Problem
from routeiq.types import Capability, ModelFacts

from .document import ENVIRON, Document
from .litellm_sections import DeploymentFacts, LiteLLMParams, ModelEntry, ModelInfo
from .model import DeploymentConfig
from .names import option_names
from .validation import is_secret

_TOKEN_FILE = "oidc/file/"  # noqa: S105 - LiteLLM's way to name a file that holds a token

_SUPPORTS: Mapping[str, tuple[Capability, ...]] = {
    "supports_function_calling": (Capability.TOOLS,),
    "supports_parallel_function_calling": (Capability.PARALLEL_TOOLS,),
    "supports_vision": (Capability.VISION,),
    "supports_audio_input": (Capability.AUDIO_INPUT,),
    "supports_audio_output": (Capability.AUDIO_OUTPUT,),
    "supports_pdf_input": (Capability.PDF,),
    "supports_response_schema": (Capability.JSON_OBJECT, Capability.JSON_SCHEMA),
    "supports_reasoning": (Capability.REASONING,),
}


def deployments(
    entries: tuple[ModelEntry, ...], document: Document, problems: list[Problem]
) -> tuple[DeploymentConfig, ...]:
    """All deployments, in order, with ids that are stable from one start to the next."""
    seen: Counter[str] = Counter()
    result = []
    for index, entry in enumerate(entries):
        info = entry.model_info or ModelInfo()
        base = info.id or _id(entry)
        seen[base] += 1
        file = document.where(("model_list", index))
        key = f"model_list[{index}]"
        if info.id and seen[base] > 1:
            message = f"the id {info.id!r} is used twice."
            fix = "Give each deployment an id of its own, or none."
            problems.append(
                Problem(key=f"{key}.model_info.id", message=message, fix=fix, file=file)
            )
        unique = base if seen[base] == 1 else f"{base}-{seen[base]}"
        result.append(_deployment(entry.model_name, entry.litellm_params, info, unique, key, file))
        problems.extend(_token_problems(entry.litellm_params, key, file))
    return tuple(result)


def _id(entry: ModelEntry) -> str:
    """The group's name and a hash of what was written, secrets left out: a new key is no new deployment."""
    written = entry.litellm_params.model_dump(exclude_none=True)
    public = {name: value for name, value in written.items() if not is_secret((name,))}
    text = json.dumps([entry.model_name, public], sort_keys=True, default=str)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", entry.model_name).strip("-")[:64]
    return f"{name or 'any'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _deployment(
    group: str, params: LiteLLMParams, info: ModelInfo, ident: str, key: str, file: str
) -> DeploymentConfig:
    own = info.routeiq or DeploymentFacts()
    extra = params.model_extra or {}
    body = {name: value for name, value in extra.items() if name in option_names().body_params}
    token = params.azure_ad_token or ""
    token_file = token.removeprefix(_TOKEN_FILE) if token.startswith(_TOKEN_FILE) else None
    return DeploymentConfig(
        key=key,
        id=ident,
        group=group,
        model=params.model,
        provider=params.custom_llm_provider,
        api_base=params.api_base or params.base_url,
        api_key=params.api_key,
        api_version=params.api_version,
        organization=params.organization,
        azure_ad_token=None if token_file else params.azure_ad_token,
        azure_ad_token_file=token_file or params.azure_ad_token_file,
        headers={**(params.headers or {}), **(params.extra_headers or {})},
        params={**body, **(params.extra_body or {})},
        drop_params=params.drop_params,
        additional_drop_params=params.additional_drop_params or (),
        timeout_s=params.timeout,
        stream_timeout_s=params.stream_timeout,
        max_retries=params.num_retries if params.max_retries is None else params.max_retries,
        weight=params.weight,
        rpm=params.rpm,
        tpm=params.tpm,
        order=params.order or 0,
        tags=frozenset((*(params.tags or ()), *own.tags)),
        region=own.region or params.region_name,
        base_model=info.base_model or params.base_model,
        facts=_facts(params, info, own),
        file=file,
    )


def _facts(params: LiteLLMParams, info: ModelInfo, own: DeploymentFacts) -> ModelFacts:
    """What the operator said; prices in `litellm_params` win over those in `model_info`, as in LiteLLM."""

    def price(name: str) -> Any:
        value = getattr(params, name)
        return getattr(info, name) if value is None else value

    output = info.max_tokens if info.max_output_tokens is None else info.max_output_tokens
    facts = ModelFacts(
        input_usd_per_token=price("input_cost_per_token"),
        output_usd_per_token=price("output_cost_per_token"),
        cached_input_usd_per_token=price("cache_read_input_token_cost"),
        context_tokens=info.max_input_tokens,
        max_output_tokens=output,
        capabilities=_capabilities(info, own),
        quality=own.quality,
        tier=own.tier,
        mode=info.mode,
        source="config",
    )
    return ModelFacts() if facts == ModelFacts(source="config") else facts


def _capabilities(info: ModelInfo, own: DeploymentFacts) -> frozenset[Capability] | None:
    """`None` unless something was said. What was not said stays possible, except to reason.

    A request never goes where a capability is missing, so a few `supports_x: true` must not rule out the
    rest; the profile `reasoning` on the other hand asks for models that are known to reason.
    """
    if own.capabilities is not None:
        return own.capabilities
    said = {name: value for name in _SUPPORTS if (value := getattr(info, name)) is not None}
    if not said:
        return None
    lacking = {found for name, value in said.items() if not value for found in _SUPPORTS[name]}
    if not info.supports_reasoning:
        lacking.add(Capability.REASONING)
    return frozenset(Capability) - lacking


def _token_problems(params: LiteLLMParams, key: str, file: str) -> list[Problem]:
    token = params.azure_ad_token or ""
    if not token.startswith("oidc/") or token.startswith(_TOKEN_FILE):
        return []
    message = f"only {_TOKEN_FILE}<path> is supported of LiteLLM's oidc/ forms."
    fix = f"Write {_TOKEN_FILE}<path>, or {ENVIRON}<NAME> for a token."
    where = f"{key}.litellm_params.azure_ad_token"
    return [Problem(key=where, message=message, fix=fix, file=file)]
