"""Fixtures that every tier shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.clock import FakeClock
from tests.support.processes import SimulatorProcess, start_simulator

PREFIXES = (
    "ANTHROPIC_",
    "AWS_",
    "AZURE_",
    "CEREBRAS_",
    "DATABASE_",
    "DEEPSEEK_",
    "FIREWORKS_",
    "GEMINI_",
    "GROQ_",
    "HOSTED_VLLM_",
    "LITELLM_",
    "LM_STUDIO_",
    "MISTRAL_",
    "NVIDIA_NIM_",
    "OLLAMA_",
    "OPENAI_",
    "OPENROUTER_",
    "PERPLEXITY",
    "REDIS_",
    "ROUTEIQ_",
    "SAMBANOVA_",
    "TOGETHER",
    "XAI_",
)
SUFFIXES = ("_API_KEY", "_API_BASE", "_PROXY")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys, settings or proxies of the machine it runs on."""
    for name in tuple(os.environ):
        if name.upper().startswith(PREFIXES) or name.upper().endswith(SUFFIXES):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio only: uvloop is one."""
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    """Time that moves when told to."""
    return FakeClock()


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    """One simulator process per test worker; call its `reset()` before relying on its records."""
    with start_simulator() as process:
        yield process
