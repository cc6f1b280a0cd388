"""No file needed: the providers whose usual variables are set, as deployments."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from routeiq.exceptions import Problem

from .model import DeploymentConfig


@dataclass(frozen=True, slots=True)
class ProviderVariables:
    """What switches a provider on: of each kind of variable, the first one that is set wins.

    `models` are offered by name, and only at the provider's own address: another may not have them.
    With `needs_base` it has no address of its own, so that one must be given.
    """

    provider: str
    keys: tuple[str, ...]
    bases: tuple[str, ...]
    models: tuple[str, ...]
    needs_base: bool


# provider, keys, addresses (! = required), current chat models, largest first (November 2026).
# Any other model is called as `provider/model`. Lists are joined by commas, nothing is written as -.
_TABLE = """
openai OPENAI_API_KEY OPENAI_BASE_URL,OPENAI_API_BASE gpt-5.4,gpt-5.4-mini,gpt-5.4-nano
azure AZURE_API_KEY !AZURE_API_BASE -
groq GROQ_API_KEY GROQ_API_BASE openai/gpt-oss-120b,openai/gpt-oss-20b
mistral MISTRAL_API_KEY MISTRAL_API_BASE mistral-large-latest,mistral-medium-latest,mistral-small-latest
deepseek DEEPSEEK_API_KEY DEEPSEEK_API_BASE deepseek-v4-pro,deepseek-v4-flash
xai XAI_API_KEY XAI_API_BASE grok-4.5,grok-4.3
together_ai TOGETHERAI_API_KEY,TOGETHER_API_KEY - openai/gpt-oss-120b,zai-org/GLM-5.2
fireworks_ai FIREWORKS_AI_API_KEY,FIREWORKS_API_KEY - glm-5p1
openrouter OPENROUTER_API_KEY OPENROUTER_API_BASE -
perplexity PERPLEXITYAI_API_KEY,PERPLEXITY_API_KEY - sonar-pro,sonar
cerebras CEREBRAS_API_KEY - gpt-oss-120b
sambanova SAMBANOVA_API_KEY - gpt-oss-120b,Meta-Llama-3.3-70B-Instruct
nvidia_nim NVIDIA_NIM_API_KEY NVIDIA_NIM_API_BASE -
ollama - !OLLAMA_API_BASE,OLLAMA_HOST -
lm_studio LM_STUDIO_API_KEY !LM_STUDIO_API_BASE -
hosted_vllm HOSTED_VLLM_API_KEY !HOSTED_VLLM_API_BASE -
anthropic ANTHROPIC_API_KEY - -
gemini GEMINI_API_KEY - -
"""


def _row(line: str) -> ProviderVariables:
    provider, *lists = line.split(" ")
    keys, bases, models = (
        () if text == "-" else tuple(text.removeprefix("!").split(",")) for text in lists
    )
    return ProviderVariables(provider, keys, bases, models, "!" in line)


PROVIDERS = tuple(_row(line) for line in _TABLE.strip().splitlines())
PROVIDER_VARIABLES = tuple(
    name for row in PROVIDERS for name in (row.bases if row.needs_base else row.keys)
)
"""Any of them set means that there is something to route to."""


def environment_deployments(
    environ: Mapping[str, str], problems: list[Problem]
) -> tuple[DeploymentConfig, ...]:
    """`provider/*` for each provider with a key (or an address), and its known models by plain name."""
    result = []
    for row in PROVIDERS:
        base_name, base = _first(environ, row.bases)
        key_name, key = _first(environ, row.keys)
        if not (base if row.needs_base else key):
            if key:
                message = f"is set, but {row.bases[0]} is not, so {row.provider} is not used."
                fix = f"Set {row.bases[0]} too."
                problems.append(Problem(key=key_name, message=message, fix=fix, severity="warning"))
            continue
        for model in ("*", *(() if base else row.models)):
            # Providers that host the same open model form one group under its bare name.
            group = f"{row.provider}/*" if model == "*" else model.rpartition("/")[2]
            result.append(
                DeploymentConfig(
                    key=key_name if key else base_name,
                    id=f"env-{row.provider}-{'any' if model == '*' else model.replace('/', '-')}",
                    group=group,
                    model=f"{row.provider}/{model}",
                    api_base=_address(base) if row.provider == "ollama" else base or None,
                    api_key=key or None,
                    api_version=environ.get("AZURE_API_VERSION")
                    if row.provider == "azure"
                    else None,
                )
            )
    return tuple(result)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    return next(((name, value) for name in names if (value := environ.get(name, ""))), ("", ""))


def _address(host: str) -> str:
    """OLLAMA_HOST as Ollama takes it: `host`, `host:port` or a URL; 0.0.0.0 is where it listens."""
    scheme, _, rest = host.rpartition("://")
    name = rest.rstrip("/").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    port = "" if scheme or ":" in name else ":11434"
    return f"{scheme or 'http'}://{name}{port}"


def one_blas_thread(environ: MutableMapping[str, str]) -> None:
    """Let NumPy's BLAS use one thread, unless the operator said otherwise; before NumPy is imported.

    With one worker a core more threads only spin: measured, training takes ten times as long on shared cores.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environ.setdefault(name, "1")


def process_environment() -> Mapping[str, str]:
    """The environment of this process, for what has variables of its own (caches of models, cloud credentials)."""
    return os.environ
