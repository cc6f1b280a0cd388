from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.settings import Settings
from routeiq.providers.dialects import DIALECTS, LITELLM_PROVIDERS, PATHS
from routeiq.providers.resolve import resolve
from routeiq.types import JsonObject

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one chat request looks like at a provider, given only a key where one is needed."""

    provider: str
    url: str
    key: str
    header: tuple[bytes, bytes] = (b"authorization", b"Bearer k")
    model: str = "m"
    body: JsonObject = field(default_factory=dict)
    base: str | None = None


OLD = {"max_tokens": 5}
NEW = {"max_completion_tokens": 5}
USAGE = {"stream_options": {"include_usage": True}}
CASES = [
    Case(
        provider="openai", url="https://api.openai.com/v1", key="OPENAI_API_KEY", body=NEW | USAGE
    ),
    Case(
        provider="azure",
        url="https://r.openai.azure.com/openai/deployments/m",
        key="AZURE_API_KEY",
        header=(b"api-key", b"k"),
        base="https://r.openai.azure.com/",
        body=NEW | USAGE,
    ),
    Case(
        provider="hosted_vllm", url="http://v:8/v1", key="HOSTED_VLLM_API_KEY", base="http://v:8/v1"
    ),
    Case(provider="vllm", url="http://v:8/v1", key="HOSTED_VLLM_API_KEY", base="http://v:8/v1"),
    Case(
        provider="ollama", url="http://localhost:11434/v1", key="OLLAMA_API_KEY", body=OLD | USAGE
    ),
    Case(provider="ollama_chat", url="http://o:1/v1", key="OLLAMA_API_KEY", base="http://o:1"),
    Case(provider="lm_studio", url="http://localhost:1234/v1", key="LM_STUDIO_API_KEY"),
    Case(provider="llamafile", url="http://127.0.0.1:8080/v1", key="LLAMAFILE_API_KEY"),
    Case(provider="xinference", url="http://127.0.0.1:9997/v1", key="XINFERENCE_API_KEY"),
    Case(provider="lemonade", url="http://localhost:8000/api/v1", key="LEMONADE_API_KEY"),
    Case(
        provider="docker_model_runner",
        url="http://localhost:22088/engines/llama.cpp/v1",
        key="DOCKER_MODEL_RUNNER_API_KEY",
    ),
    Case(provider="openai_like", url="http://x/v1", key="OPENAI_LIKE_API_KEY", base="http://x/v1/"),
    Case(
        provider="custom_openai", url="http://x/v1", key="CUSTOM_OPENAI_API_KEY", base="http://x/v1"
    ),
    Case(provider="litellm_proxy", url="http://x", key="LITELLM_PROXY_API_KEY", base="http://x"),
    Case(
        provider="groq", url="https://api.groq.com/openai/v1", key="GROQ_API_KEY", body=NEW | USAGE
    ),
    Case(provider="mistral", url="https://api.mistral.ai/v1", key="MISTRAL_API_KEY", body=OLD),
    Case(
        provider="deepseek", url="https://api.deepseek.com/beta", key="DEEPSEEK_API_KEY", body=OLD
    ),
    Case(provider="xai", url="https://api.x.ai/v1", key="XAI_API_KEY", body=NEW),
    Case(
        provider="together_ai", url="https://api.together.ai/v1", key="TOGETHERAI_API_KEY", body=OLD
    ),
    Case(
        provider="fireworks_ai",
        url="https://api.fireworks.ai/inference/v1",
        key="FIREWORKS_AI_API_KEY",
        model="accounts/fireworks/models/m",
    ),
    Case(provider="openrouter", url="https://openrouter.ai/api/v1", key="OR_API_KEY", body=NEW),
    Case(
        provider="perplexity", url="https://api.perplexity.ai", key="PERPLEXITY_API_KEY", body=OLD
    ),
    Case(provider="cerebras", url="https://api.cerebras.ai/v1", key="CEREBRAS_API_KEY", body=NEW),
    Case(
        provider="sambanova", url="https://api.sambanova.ai/v1", key="SAMBANOVA_API_KEY", body=OLD
    ),
    Case(
        provider="nvidia_nim", url="https://integrate.api.nvidia.com/v1", key="NVIDIA_NIM_API_KEY"
    ),
    Case(provider="deepinfra", url="https://api.deepinfra.com/v1/openai", key="DEEPINFRA_API_KEY"),
    Case(provider="moonshot", url="https://api.moonshot.ai/v1", key="MOONSHOT_API_KEY", body=OLD),
    Case(
        provider="dashscope",
        url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        key="DASHSCOPE_API_KEY",
    ),
    Case(
        provider="qwen",
        url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        key="DASHSCOPE_API_KEY",
    ),
    Case(provider="novita", url="https://api.novita.ai/v3/openai", key="NOVITA_API_KEY"),
    Case(provider="nebius", url="https://api.studio.nebius.ai/v1", key="NEBIUS_API_KEY", body=OLD),
    Case(provider="hyperbolic", url="https://api.hyperbolic.xyz/v1", key="HYPERBOLIC_API_KEY"),
    Case(provider="featherless_ai", url="https://api.featherless.ai/v1", key="FEATHERLESS_API_KEY"),
    Case(provider="github", url="https://models.inference.ai.azure.com", key="GITHUB_API_KEY"),
    Case(provider="volcengine", url="https://ark.cn-beijing.volces.com/api/v3", key="ARK_API_KEY"),
    Case(provider="lambda_ai", url="https://api.lambda.ai/v1", key="LAMBDA_API_KEY"),
    Case(provider="meta_llama", url="https://api.llama.com/compat/v1", key="LLAMA_API_KEY"),
    Case(provider="nscale", url="https://inference.api.nscale.com/v1", key="NSCALE_API_KEY"),
    Case(provider="wandb", url="https://api.inference.wandb.ai/v1", key="WANDB_API_KEY"),
    Case(provider="scaleway", url="https://api.scaleway.ai/v1", key="SCW_SECRET_KEY"),
    Case(provider="zai", url="https://api.z.ai/api/paas/v4", key="ZAI_API_KEY"),
    Case(provider="friendliai", url="https://api.friendli.ai/serverless/v1", key="FRIENDLI_TOKEN"),
    Case(
        provider="vercel_ai_gateway",
        url="https://ai-gateway.vercel.sh/v1",
        key="VERCEL_AI_GATEWAY_API_KEY",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.provider)
def test_one_request_per_provider(case: Case) -> None:
    entry = DeploymentConfig(
        key="e", id="d", group="g", model=f"{case.provider}/m", api_base=case.base
    )
    resolved = resolve(Config(settings=Settings(), deployments=(entry,), environ={case.key: "k"}))
    assert [one for one in resolved.problems if one.severity == "error"] == []
    body = {"model": "g", "messages": [], "stream": True, "max_completion_tokens": 5}
    call = resolved.upstreams["d"].prepare("chat", body, "m", stream=True, client_asked_usage=False)
    version = "?api-version=2025-02-01-preview" if case.provider == "azure" else ""
    assert call.url == f"{case.url}/chat/completions{version}"
    assert case.header in call.headers
    assert (b"content-type", b"application/json") in call.headers
    sent = orjson.loads(call.body)
    assert sent["model"] == case.model
    assert call.strip_usage is ("stream_options" in sent)
    expected = {key: sent.get(key) for key in case.body}
    assert expected == case.body


def test_every_dialect_has_a_case() -> None:
    assert {case.provider for case in CASES} == set(DIALECTS) - {"text-completion-openai"}


def test_text_completions_of_openai_are_served_as_such() -> None:
    assert DIALECTS["text-completion-openai"].operations == {"completions"}


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_records_are_sound(name: str) -> None:
    dialect = DIALECTS[name]
    assert dialect.operations
    assert dialect.operations <= set(PATHS)
    assert dialect.key_variables
    assert dialect.base_variables
    if dialect.base_url is not None:
        local = urlsplit(dialect.base_url).hostname in ("localhost", "127.0.0.1")
        assert dialect.base_url.startswith("http://" if local else "https://")
        assert not dialect.base_url.endswith("/")
        assert local is (dialect.auth == "none")


def test_lanes_do_not_overlap() -> None:
    assert not LITELLM_PROVIDERS & DIALECTS.keys()
    assert {"anthropic", "bedrock", "gemini", "vertex_ai", "cohere"} <= LITELLM_PROVIDERS


def test_reference_page_is_current() -> None:
    spec = spec_from_file_location("generate_providers", ROOT / "scripts" / "generate_providers.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "reference" / "providers.md").read_text(encoding="utf-8")
    assert module.render() == page, "run python scripts/generate_providers.py"
