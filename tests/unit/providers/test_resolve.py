from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.config.model import Config, DeploymentConfig, RouterConfig
from routeiq.config.section import Price, RouteIQSection
from routeiq.config.settings import Settings
from routeiq.providers.resolve import Resolved, azure_urls, resolve
from routeiq.providers.upstream import Call
from routeiq.types import Capability, JsonObject, ModelFacts, Operation

KEYS = {"OPENAI_API_KEY": "sk-o", "GROQ_API_KEY": "sk-g", "AZURE_API_KEY": "sk-a"}


def run(
    model: str,
    *,
    environ: Mapping[str, str] = KEYS,
    prices: dict[str, Price] | None = None,
    router: RouterConfig | None = None,
    **entry: Any,
) -> Resolved:
    one = DeploymentConfig(
        **{"key": "model_list[0]", "id": "d", "group": "g", "model": model, **entry}
    )
    return resolve(
        Config(
            settings=Settings(),
            deployments=(one,),
            environ=environ,
            routeiq=RouteIQSection(prices=prices or {}),
            router=router or RouterConfig(),
        )
    )


def errors(resolved: Resolved) -> list[str]:
    return [str(one) for one in resolved.problems if one.severity == "error"]


def warnings(resolved: Resolved) -> list[str]:
    return [str(one) for one in resolved.problems if one.severity == "warning"]


def call(resolved: Resolved, operation: Operation = "chat", body: JsonObject | None = None) -> Call:
    model = resolved.deployments[0].model
    return resolved.upstreams["d"].prepare(
        operation, body or {}, model, stream=False, client_asked_usage=False
    )


@pytest.mark.parametrize(
    ("model", "options", "provider", "upstream_model"),
    [
        ("openai/gpt-4o", {}, "openai", "gpt-4o"),
        ("gpt-4o", {}, "openai", "gpt-4o"),
        ("gpt-4o", {"provider": "groq"}, "groq", "gpt-4o"),
        ("groq/gpt-4o", {"provider": "groq"}, "groq", "gpt-4o"),
        ("meta/llama", {"provider": "groq"}, "groq", "meta/llama"),
        ("groq/meta-llama/x", {}, "groq", "meta-llama/x"),
        ("openai/*", {}, "openai", "*"),
        ("*", {}, "openai", "*"),
        ("meta-llama/x", {"api_base": "http://me:1/v1"}, "custom_openai", "meta-llama/x"),
        ("gpt-4o", {"api_base": "http://me:1/v1"}, "openai", "gpt-4o"),
        ("llama", {"api_base": "https://api.groq.com/openai/v1"}, "groq", "llama"),
        ("llama", {"api_base": "http://localhost:1234/v1"}, "custom_openai", "llama"),
        ("anthropic/claude-sonnet-4-5", {}, "anthropic", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5", {}, "anthropic", "claude-sonnet-4-5"),
    ],
)
def test_provider_and_model_are_split_as_litellm_does(
    model: str, options: dict[str, Any], provider: str, upstream_model: str
) -> None:
    deployment = run(model, **options).deployments[0]
    assert (deployment.provider, deployment.model) == (provider, upstream_model)


@pytest.mark.parametrize(
    ("model", "options"), [("our-own", {}), ("x/y", {}), ("m", {"provider": "nobody"})]
)
def test_unknown_provider_is_an_error(model: str, options: dict[str, Any]) -> None:
    resolved = run(model, **options)
    assert resolved.deployments == ()
    assert "model_list[0].litellm_params.model" in errors(resolved)[0]
    assert "is not known" in errors(resolved)[0]


def test_litellm_lane_is_said_loudly_and_has_no_upstream() -> None:
    resolved = run("anthropic/claude-sonnet-4-5")
    assert resolved.deployments[0].lane == "litellm"
    assert resolved.deployments[0].facts.input_usd_per_token == pytest.approx(3e-6)
    assert resolved.upstreams == {}
    assert (
        "the LiteLLM lane is not built yet: this deployment is not served" in warnings(resolved)[0]
    )
    assert errors(resolved) == []


def test_deployment_keeps_what_the_entry_says() -> None:
    fields: dict[str, Any] = {
        "weight": 2.0,
        "rpm": 3,
        "tpm": 4,
        "order": 5,
        "tags": frozenset({"t"}),
        "region": "eu",
    }
    deployment = run("openai/gpt-4o", **fields).deployments[0]
    assert {name: getattr(deployment, name) for name in fields} == fields
    assert (deployment.id, deployment.group, deployment.lane) == ("d", "g", "native")


def test_key_comes_from_the_entry_before_the_environment() -> None:
    assert (b"authorization", b"Bearer own") in call(run("openai/gpt-4o", api_key=" own\n")).headers
    assert (b"authorization", b"Bearer sk-o") in call(run("openai/gpt-4o")).headers


def test_missing_key_is_an_error_with_a_fix() -> None:
    resolved = run("openai/gpt-4o", environ={}, file="c.yaml")
    assert errors(resolved) == [
        "c.yaml: model_list[0].litellm_params.api_key: there is no API key for provider 'openai'. "
        "Set api_key in the entry, or the variable OPENAI_API_KEY."
    ]
    assert resolved.upstreams == {}
    assert len(resolved.deployments) == 1


def test_missing_key_is_no_error_where_none_is_needed_or_a_header_has_it() -> None:
    assert errors(run("ollama/llama3", environ={})) == []
    own = run("openai/gpt-4o", environ={}, headers={"Authorization": "Basic x"})
    assert errors(own) == []
    assert (b"authorization", b"Basic x") in call(own).headers
    assert b"authorization" not in dict(call(run("ollama/llama3", environ={})).headers)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"api_key": "sk-1\r\nx-evil: 1"}, "api_key"),
        ({"headers": {"x-a": "b\nc"}}, "headers.x-a"),
        ({"organization": "ö"}, "headers.openai-organization"),
    ],
)
def test_header_injection_is_an_error_that_shows_no_secret(
    options: dict[str, Any], place: str
) -> None:
    resolved = run("openai/gpt-4o", **options)
    assert f"litellm_params.{place}" in errors(resolved)[0]
    assert "sk-1" not in errors(resolved)[0]
    assert resolved.upstreams == {}


def test_organization_and_own_headers_are_sent() -> None:
    headers = dict(call(run("openai/gpt-4o", organization="org", headers={"X-Team": "t"})).headers)
    assert headers[b"openai-organization"] == b"org"
    assert headers[b"x-team"] == b"t"
    assert headers[b"accept-encoding"] == b"identity"
    assert headers[b"user-agent"].startswith(b"routeiq/")


@pytest.mark.parametrize(
    ("model", "environ", "options", "url"),
    [
        ("openai/m", KEYS, {"api_base": "http://h/v1/"}, "http://h/v1/chat/completions"),
        (
            "openai/m",
            KEYS,
            {"api_base": "http://h/v1/chat/completions"},
            "http://h/v1/chat/completions",
        ),
        (
            "openai/m",
            {**KEYS, "OPENAI_BASE_URL": "http://e/v1"},
            {},
            "http://e/v1/chat/completions",
        ),
        ("ollama/m", {"OLLAMA_HOST": "box:11434"}, {}, "http://box:11434/v1/chat/completions"),
        ("ollama/m", {"OLLAMA_API_BASE": "http://a/v1"}, {}, "http://a/v1/chat/completions"),
    ],
)
def test_address_comes_from_entry_environment_or_dialect(
    model: str, environ: Mapping[str, str], options: dict[str, Any], url: str
) -> None:
    assert call(run(model, environ=environ, **options)).url == url


@pytest.mark.parametrize(
    "base",
    [
        "ftp://h/v1",
        "h/v1",
        "http://",
        "http://h/a b",
        "http://h:x/",
        "http://[::1",
        "http://h/?a=b",
    ],
)
def test_bad_address_is_an_error(base: str) -> None:
    resolved = run("openai/gpt-4o", api_base=base)
    assert "api_base" in errors(resolved)[0]
    assert resolved.upstreams == {}


def test_bad_address_of_a_bare_name_is_an_error_too() -> None:
    assert "api_base" in errors(run("our-own", api_base="http://h:x/"))[0]


def test_missing_address_is_an_error_with_the_variable() -> None:
    assert "HOSTED_VLLM_API_BASE" in errors(run("hosted_vllm/m"))[0]


AZ = "https://r.openai.azure.com"


@pytest.mark.parametrize(
    ("base", "version", "operation", "url"),
    [
        (AZ, "2024-10-21", "chat", f"{AZ}/openai/deployments/d%2Fx/chat/completions?api-version=2024-10-21"),
        (f"{AZ}/openai", "v", "embeddings", f"{AZ}/openai/deployments/d%2Fx/embeddings?api-version=v"),
        (f"{AZ}/openai/deployments/y", "v", "chat", f"{AZ}/openai/deployments/y/chat/completions?api-version=v"),
        (f"{AZ}/openai/v1", "2024-10-21", "chat", f"{AZ}/openai/v1/chat/completions"),
        (AZ, "v1", "chat", f"{AZ}/openai/v1/chat/completions"),
        (AZ, "latest", "completions", f"{AZ}/openai/v1/completions"),
        (AZ, "preview", "chat", f"{AZ}/openai/v1/chat/completions?api-version=preview"),
        (AZ, "2024-10-21", "responses", f"{AZ}/openai/v1/responses"),
    ],
)  # fmt: skip
def test_azure_urls(base: str, version: str, operation: Operation, url: str) -> None:
    assert azure_urls(base, version, "d/x")[operation] == (url, None)


def test_azure_wildcard_leaves_room_for_the_model() -> None:
    head, tail = azure_urls(AZ, "v", "*")["chat"]
    assert (
        head + "gpt" + (tail or "") == f"{AZ}/openai/deployments/gpt/chat/completions?api-version=v"
    )


@pytest.mark.parametrize(
    ("environ", "options", "version"),
    [
        ({}, {}, "2025-02-01-preview"),
        ({"AZURE_API_VERSION": "2024-06-01"}, {}, "2024-06-01"),
        ({"AZURE_API_VERSION": "2024-06-01"}, {"api_version": "2024-10-21"}, "2024-10-21"),
    ],
)
def test_azure_version(environ: Mapping[str, str], options: dict[str, Any], version: str) -> None:
    resolved = run("azure/m", environ={**KEYS, **environ}, api_base=AZ, **options)
    assert call(resolved).url.endswith(f"?api-version={version}")


def test_azure_credentials(tmp_path: Path) -> None:
    assert dict(call(run("azure/m", api_base=AZ)).headers)[b"api-key"] == b"sk-a"
    both = run("azure/m", api_base=AZ, azure_ad_token="t")  # the entry wins over the environment
    assert b"api-key" not in dict(call(both).headers)
    token = run("azure/m", api_base=AZ, environ={"AZURE_AD_TOKEN": "t"})
    assert dict(call(token).headers)[b"authorization"] == b"Bearer t"
    (tmp_path / "t").write_text("file")
    from_file = run("azure/m", api_base=AZ, azure_ad_token_file=str(tmp_path / "t"))
    headers = dict(call(from_file).headers)
    assert headers[b"authorization"] == b"Bearer file"
    assert b"api-key" not in headers
    missing = run("azure/m", api_base=AZ, azure_ad_token_file=str(tmp_path / "none"))
    assert "azure_ad_token_file" in errors(missing)[0]


def test_facts_are_merged_per_field() -> None:
    prices = {"openai/gpt-4o-mini": Price(output_usd_per_mtok=9.0, quality=0.7)}
    own = ModelFacts(context_tokens=5, source="config")
    facts = run("openai/gpt-4o-mini", prices=prices, facts=own).deployments[0].facts
    assert facts.context_tokens == 5
    assert facts.output_usd_per_token == pytest.approx(9e-6)
    assert facts.input_usd_per_token == pytest.approx(0.15e-6)
    assert facts.quality == 0.7
    assert facts.capabilities is not None
    assert Capability.TOOLS in facts.capabilities
    assert facts.source.startswith("config over routeiq.prices over table of ")


@pytest.mark.parametrize("name", ["hosted_vllm/m", "m", "g"])
def test_prices_are_found_under_any_of_their_names(name: str) -> None:
    price = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0, cached_input_usd_per_mtok=0.0)
    resolved = run("hosted_vllm/m", api_base="http://h/v1", prices={name: price})
    facts = resolved.deployments[0].facts
    assert (facts.input_usd_per_token, facts.cached_input_usd_per_token) == (0.0, 0.0)
    assert resolved.problems == ()


def test_base_model_names_what_a_deployment_is() -> None:
    facts = run("azure/our-name", api_base=AZ, base_model="azure/gpt-4o").deployments[0].facts
    assert facts.input_usd_per_token == pytest.approx(2.5e-6)


def test_unknown_price_is_a_warning_but_not_for_wildcards() -> None:
    assert "the price of 'groq/new' is not known" in warnings(run("groq/new"))[0]
    assert run("openai/*").problems == ()


def test_wildcards_have_facts_on_demand() -> None:
    resolved = run("openai/*", prices={"gpt-4o": Price(input_usd_per_mtok=1.0)})
    assert resolved.facts_for("openai", "gpt-4o").input_usd_per_token == pytest.approx(1e-6)
    assert resolved.facts_for("openai", "gpt-4o-mini").context_tokens == 128000


@pytest.mark.parametrize(
    ("own", "every", "dropped"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_drop_params_of_the_entry_wins(own: bool | None, every: bool, dropped: bool) -> None:
    resolved = run("groq/m", drop_params=own, router=RouterConfig(drop_params=every))
    sent = orjson.loads(call(resolved, body={"logit_bias": {}}).body)
    assert ("logit_bias" not in sent) is dropped


def test_params_and_additional_drops_reach_the_body() -> None:
    resolved = run("openai/m", params={"temperature": 0.5}, additional_drop_params=("user",))
    assert orjson.loads(call(resolved, body={"user": "u"}).body) == {
        "model": "m",
        "temperature": 0.5,
    }


def test_nested_drops_are_named_as_unsupported() -> None:
    resolved = run("openai/gpt-4o", additional_drop_params=("tools[*].strict",))
    assert "only whole fields can be dropped" in warnings(resolved)[0]
    assert "d" in resolved.upstreams
