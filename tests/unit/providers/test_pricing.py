from __future__ import annotations

import json
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from routeiq.providers import pricing
from routeiq.providers.pricing import PriceTable, cost_usd, predicted_cost_usd
from routeiq.types import Capability, ModelFacts, Usage

ROOT = Path(__file__).parents[3]
TABLE = PriceTable.bundled()
FACTS = ModelFacts(input_usd_per_token=1e-6, output_usd_per_token=2e-6)


def builder() -> ModuleType:
    spec = spec_from_file_location("build_model_table", ROOT / "scripts" / "build_model_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("provider", "model", "read", "written", "cached", "context", "mode"),
    [
        ("openai", "gpt-4o-mini", 0.15, 0.6, 0.075, 128000, "chat"),
        ("azure", "gpt-4o", 2.5, 10, 1.25, 128000, "chat"),
        ("anthropic", "claude-sonnet-4-5", 3, 15, 0.3, 200000, "chat"),
        ("deepseek", "deepseek-chat", 0.28, 0.42, 0.028, 131072, "chat"),
        ("openai", "text-embedding-3-small", 0.02, 0, None, 8191, "embedding"),
    ],
)
def test_known_facts(
    provider: str,
    model: str,
    read: float,
    written: float,
    cached: float | None,
    context: int,
    mode: str,
) -> None:
    facts = TABLE.facts(provider, model)
    assert facts.input_usd_per_token == pytest.approx(read / 1e6)
    assert facts.output_usd_per_token == pytest.approx(written / 1e6)
    assert facts.cached_input_usd_per_token == (cached and pytest.approx(cached / 1e6))
    assert (facts.context_tokens, facts.mode) == (context, mode)
    assert TABLE.date in facts.source


def test_capabilities_are_read() -> None:
    known = TABLE.facts("openai", "gpt-4o-mini").capabilities
    assert known is not None
    assert {Capability.TOOLS, Capability.VISION, Capability.JSON_SCHEMA} <= known
    assert Capability.REASONING not in known


def test_release_date_and_fine_tuning_are_looked_through() -> None:
    plain = TABLE.facts("openai", "gpt-4o-mini")
    assert TABLE.facts("openai", "gpt-4o-mini-2099-12-31") == plain
    assert TABLE.facts("openai", "ft:gpt-4o-mini-2024-07-18:org::1").output_usd_per_token == 1.2e-6


def test_another_sellers_price_is_not_taken() -> None:
    facts = TABLE.facts("openrouter", "openai/gpt-4o-mini")
    assert facts.input_usd_per_token is None
    assert facts.output_usd_per_token is None
    assert facts.context_tokens == 128000


def test_unknown_model_has_no_facts() -> None:
    assert TABLE.facts("hosted_vllm", "our-own") == ModelFacts()


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("gpt-99-ultra", "openai"),
        ("*", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("claude-99", "anthropic"),
        ("babbage-002", "text-completion-openai"),
        ("mistral-large-latest", None),
        ("our-own", None),
    ],
)
def test_bare_names_have_the_provider_that_litellm_gives_them(
    model: str, provider: str | None
) -> None:
    assert TABLE.provider_of(model) == provider


@pytest.mark.parametrize(
    ("facts", "usage", "expected"),
    [
        (FACTS, Usage(input_tokens=10, output_tokens=5), 20e-6),
        (FACTS, Usage(input_tokens=10, output_tokens=5, cached_input_tokens=4), 20e-6),
        (FACTS, Usage(input_tokens=10), None),
        (FACTS, Usage(output_tokens=10), None),
        (ModelFacts(), Usage(input_tokens=1, output_tokens=1), None),
        (ModelFacts(input_usd_per_token=1e-6), Usage(input_tokens=1, output_tokens=1), None),
        (ModelFacts(input_usd_per_token=1e-6), Usage(input_tokens=1, output_tokens=0), 1e-6),
        (
            ModelFacts(input_usd_per_token=0.0, output_usd_per_token=0.0),
            Usage(input_tokens=9, output_tokens=9),
            0.0,
        ),
    ],
)
def test_cost_is_exact_or_unknown(facts: ModelFacts, usage: Usage, expected: float | None) -> None:
    assert cost_usd(facts, usage) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("cached", "expected"), [(None, 20e-6), (4, 16.4e-6), (99, 11e-6)])
def test_cached_input_has_its_own_price(cached: int | None, expected: float) -> None:
    facts = ModelFacts(
        input_usd_per_token=1e-6, output_usd_per_token=2e-6, cached_input_usd_per_token=0.1e-6
    )
    usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=cached)
    assert cost_usd(facts, usage) == pytest.approx(expected)


def test_predicted_cost_needs_only_the_prices_that_matter() -> None:
    assert predicted_cost_usd(FACTS, 10, 5) == pytest.approx(20e-6)
    assert predicted_cost_usd(ModelFacts(), 0, 0) == 0.0
    assert predicted_cost_usd(ModelFacts(), 1, 0) is None


def test_table_is_small_and_loads_fast() -> None:
    path = Path(pricing.__file__).parent / "data" / "models.json"
    assert path.stat().st_size <= 400 * 1024
    best = 1.0
    for _ in range(3):
        started = time.process_time()
        PriceTable.bundled()
        best = min(best, time.process_time() - started)
    assert best <= 0.03


def test_no_price_is_zero_by_accident() -> None:
    table = json.loads((Path(pricing.__file__).parent / "data" / "models.json").read_text())
    for provider, models in table["models"].items():
        for name, (mode, *figures) in models.items():
            if provider not in ("ollama", "lemonade") and table["modes"][mode] != "embedding":
                assert 0 not in figures[:3], (provider, name)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"mode": "chat"}, [0]),
        ({"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}, [0, 1, 2]),
        ({"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0}, [0]),
        (
            {
                "mode": "completion",
                "litellm_provider": "ollama",
                "input_cost_per_token": 0,
                "output_cost_per_token": 0,
            },
            [1, 0, 0],
        ),
        (
            {"mode": "embedding", "input_cost_per_token": 1e-7, "output_cost_per_token": 0},
            [2, 0.1, 0],
        ),
        (
            {
                "mode": "chat",
                "max_input_tokens": 10,
                "max_output_tokens": 5,
                "supports_vision": True,
            },
            [0, None, None, None, 10, 5, 4],
        ),
        (
            {"mode": "chat", "supports_function_calling": True},
            [0, None, None, None, None, None, 1 | 2 | 64],
        ),
        (
            {
                "mode": "chat",
                "supports_function_calling": True,
                "supports_parallel_function_calling": False,
            },
            [0, None, None, None, None, None, 1 | 64],
        ),
    ],
)
def test_rows_hold_figures_only(entry: dict[str, Any], expected: list[Any]) -> None:
    assert builder().row({"litellm_provider": "openai", **entry}) == expected


def test_builder_sorts_models_by_provider_without_prefix() -> None:
    source = {
        "sample_spec": {"mode": "chat", "litellm_provider": "one of"},
        "azure/gpt": {"mode": "chat", "litellm_provider": "azure"},
        "gemini-x": {"mode": "chat", "litellm_provider": "vertex_ai-language-models"},
        "picture": {"mode": "image_generation", "litellm_provider": "openai"},
    }
    table = builder().build(source, "1", "2026-01-01")
    assert table["models"] == {"azure": {"gpt": [0]}, "vertex_ai": {"gemini-x": [0]}}
    assert PriceTable(json.dumps(table).encode()).facts("azure", "gpt").mode == "chat"
    assert table["capabilities"] == [one.value for one in Capability]
