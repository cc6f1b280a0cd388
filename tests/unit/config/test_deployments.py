"""Entries of `model_list`: every parameter, facts, ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from routeiq.config.loader import inspect_config, load_config
from routeiq.config.model import DeploymentConfig
from routeiq.types import Capability, ModelFacts

ALL = frozenset(Capability)


def read(folder: Path, *entries: dict[str, Any]) -> tuple[DeploymentConfig, ...]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": list(entries)}))
    return load_config(str(path), {}).deployments


def one(folder: Path, info: dict[str, Any] | None = None, **params: Any) -> DeploymentConfig:
    entry = {"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o", **params}}
    (deployment,) = read(folder, entry | ({"model_info": info} if info else {}))
    return deployment


# parameter, what is written, field, what it becomes; the field's default is the other value
PARAMS: list[tuple[str, Any, str, Any]] = [
    ("custom_llm_provider", "openai", "provider", "openai"),
    ("api_base", "https://a.example.com/v1", "api_base", "https://a.example.com/v1"),
    ("base_url", "https://b.example.com/v1", "api_base", "https://b.example.com/v1"),
    ("api_key", "sk-1", "api_key", "sk-1"),
    ("api_version", "2024-10-21", "api_version", "2024-10-21"),
    ("organization", "org-1", "organization", "org-1"),
    ("azure_ad_token", "eyJ", "azure_ad_token", "eyJ"),
    ("azure_ad_token", "oidc/file//run/token", "azure_ad_token_file", "/run/token"),
    ("azure_ad_token_file", "/run/token", "azure_ad_token_file", "/run/token"),
    ("headers", {"x-a": "1"}, "headers", {"x-a": "1"}),
    ("extra_headers", {"x-a": "1"}, "headers", {"x-a": "1"}),
    ("extra_body", {"top_k": 3}, "params", {"top_k": 3}),
    ("temperature", 0.5, "params", {"temperature": 0.5}),
    ("max_tokens", 5, "params", {"max_tokens": 5}),
    ("timeout", 7, "timeout_s", 7.0),
    ("stream_timeout", "8", "stream_timeout_s", 8.0),
    ("max_retries", 0, "max_retries", 0),
    ("num_retries", 4, "max_retries", 4),
    ("drop_params", True, "drop_params", True),
    ("additional_drop_params", ["seed"], "additional_drop_params", ("seed",)),
    ("weight", 2, "weight", 2.0),
    ("rpm", 60, "rpm", 60),
    ("tpm", 1000, "tpm", 1000),
    ("order", 2, "order", 2),
    ("tags", ["paid"], "tags", frozenset({"paid"})),
    ("region_name", "eu", "region", "eu"),
    ("base_model", "azure/gpt-4o", "base_model", "azure/gpt-4o"),
]


@pytest.mark.parametrize(("name", "written", "field", "expected"), PARAMS)
def test_a_parameter_is_read_and_has_another_default(
    tmp_path: Path, name: str, written: Any, field: str, expected: Any
) -> None:
    assert getattr(one(tmp_path, **{name: written}), field) == expected
    assert getattr(one(tmp_path), field) != expected


FACTS: list[tuple[str, Any, str, Any]] = [
    ("mode", "embedding", "mode", "embedding"),
    ("max_input_tokens", 1000, "context_tokens", 1000),
    ("max_output_tokens", 100, "max_output_tokens", 100),
    ("max_tokens", 200, "max_output_tokens", 200),
    ("input_cost_per_token", 1e-6, "input_usd_per_token", 1e-6),
    ("output_cost_per_token", 0, "output_usd_per_token", 0.0),
    ("cache_read_input_token_cost", 1e-7, "cached_input_usd_per_token", 1e-7),
]


@pytest.mark.parametrize(("name", "written", "field", "expected"), FACTS)
def test_a_fact_is_read_and_is_otherwise_not_known(
    tmp_path: Path, name: str, written: Any, field: str, expected: Any
) -> None:
    facts = one(tmp_path, {name: written}).facts
    assert getattr(facts, field) == expected
    assert facts.source == "config"
    assert one(tmp_path).facts == ModelFacts()


def test_prices_of_the_parameters_win(tmp_path: Path) -> None:
    both = one(tmp_path, {"input_cost_per_token": 2e-6}, input_cost_per_token=0)
    assert both.facts.input_usd_per_token == 0.0
    assert one(tmp_path, output_cost_per_token=3e-6).facts.output_usd_per_token == 3e-6


def test_the_longer_name_of_the_longest_answer_wins(tmp_path: Path) -> None:
    facts = one(tmp_path, {"max_tokens": 10, "max_output_tokens": 20}).facts
    assert facts.max_output_tokens == 20


@pytest.mark.parametrize(
    ("info", "capabilities"),
    [
        ({"owner": "me"}, None),
        ({"supports_vision": True}, ALL - {Capability.REASONING}),
        ({"supports_vision": False}, ALL - {Capability.VISION, Capability.REASONING}),
        ({"supports_reasoning": True}, ALL),
        ({"supports_reasoning": False}, ALL - {Capability.REASONING}),
        (
            {"supports_function_calling": False, "supports_reasoning": True},
            ALL - {Capability.TOOLS},
        ),
        (
            {"supports_response_schema": False, "supports_reasoning": True},
            ALL - {Capability.JSON_OBJECT, Capability.JSON_SCHEMA},
        ),
        ({"routeiq": {"capabilities": ["tools"]}, "supports_vision": True}, {Capability.TOOLS}),
        ({"routeiq": {"capabilities": []}}, frozenset()),
        ({"routeiq": {"quality": 0.5}}, None),
    ],
)
def test_capabilities_are_known_only_where_something_was_said(
    tmp_path: Path, info: dict[str, Any], capabilities: frozenset[Capability] | None
) -> None:
    assert one(tmp_path, info).facts.capabilities == capabilities


def test_routeiqs_own_facts(tmp_path: Path) -> None:
    own = {"quality": 0.8, "tier": "large", "tags": ["b"], "region": "eu"}
    found = one(tmp_path, {"routeiq": own}, tags=["a"], region_name="us")
    assert (found.facts.quality, found.facts.tier) == (0.8, "large")
    assert (found.tags, found.region) == (frozenset({"a", "b"}), "eu")


def test_base_model_of_the_facts_wins(tmp_path: Path) -> None:
    assert one(tmp_path, {"base_model": "gpt-4o"}, base_model="x").base_model == "gpt-4o"


def test_headers_and_bodies_are_merged(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        headers={"a": "1", "b": "1"},
        extra_headers={"b": "2"},
        temperature=1,
        extra_body={"temperature": 2, "guided": True},
    )
    assert found.headers == {"a": "1", "b": "2"}
    assert found.params == {"temperature": 2, "guided": True}


def entry(group: str = "chat", **params: Any) -> dict[str, Any]:
    return {"model_name": group, "litellm_params": {"model": "openai/gpt-4o", **params}}


def test_an_id_does_not_depend_on_the_key_and_does_on_the_rest(tmp_path: Path) -> None:
    def ident(**params: Any) -> str:
        return read(tmp_path, entry(**params))[0].id

    assert ident(api_key="sk-1") == ident(api_key="sk-2") == ident()
    assert ident(extra_headers={"authorization": "a"}) == ident()
    assert ident(rpm=1) != ident()
    assert ident().startswith("chat-")
    assert read(tmp_path, entry("other"))[0].id != ident()


def test_twins_get_a_suffix_in_order(tmp_path: Path) -> None:
    first, second, third = (place.id for place in read(tmp_path, *[entry()] * 3))
    assert (second, third) == (f"{first}-2", f"{first}-3")


@pytest.mark.parametrize("group", ["*", "openai/*", "日本", "a b\nc", "x" * 500])
def test_an_id_is_fit_for_a_header(tmp_path: Path, group: str) -> None:
    ident = read(tmp_path, entry(group))[0].id
    assert ident.isascii()
    assert ident.isprintable()
    assert " " not in ident
    assert len(ident) < 128


def test_the_operators_id_is_kept_and_must_be_unique(tmp_path: Path) -> None:
    assert one(tmp_path, {"id": "mine"}).id == "mine"
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model_list": [
                    {**entry(), "model_info": {"id": "mine"}},
                    {**entry(rpm=1), "model_info": {"id": "mine"}},
                ]
            }
        )
    )
    _, (problem,) = inspect_config(str(path), {})
    assert "used twice" in problem.message


def test_a_deployment_knows_where_it_was_written(tmp_path: Path) -> None:
    _, second = read(tmp_path, entry(), entry(rpm=1))
    assert second.key == "model_list[1]"
    assert second.file.startswith(f"{tmp_path}/config.yaml:")


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    shown = repr(
        one(
            tmp_path,
            api_key="sk-1",
            azure_ad_token="sk-2",
            headers={"a": "sk-3"},
            extra_body={"k": "sk-4"},
        )
    )
    assert "sk-" not in shown
