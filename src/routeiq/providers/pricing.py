"""Prices and facts of models, from a bundled table; and what a request costs.

The table (`data/models.json`) holds figures only; `scripts/build_model_table.py` makes it from a public
price map, docs/adr/0006-prices.md says what it can and cannot know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from routeiq.types import Capability, ModelFacts, Usage

_TABLE = Path(__file__).parent / "data" / "models.json"
_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4,6})$")
# Billed like another provider's models of the same name, or the same provider under another name.
_SAME_PRICES = {"azure": "openai", "ollama_chat": "ollama", "qwen": "dashscope"}
# Makers whose models LiteLLM, and so we, know without a prefix.
_BARE = ("openai", "text-completion-openai", "anthropic", "cohere_chat", "cohere", "vertex_ai")
# Who is asked, in this order, about a model of another seller.
_MAKERS = (*_BARE, "gemini", "mistral", "deepseek", "xai", "moonshot", "zai")
_FAMILIES = re.compile(r"(?P<openai>\*$|ft:|gpt-|chatgpt-|o\d)|(?P<anthropic>claude-)")


class PriceTable:
    """The bundled table, read once."""

    def __init__(self, data: bytes) -> None:
        table = orjson.loads(data)
        self.date: str = table["date"]
        self.source: str = table["source"]
        self._modes: list[str] = table["modes"]
        self._flags = [Capability(name) for name in table["capabilities"]]
        self._models: Mapping[str, Mapping[str, list[Any]]] = table["models"]

    @classmethod
    def bundled(cls) -> PriceTable:
        """The one in this package."""
        return cls(_TABLE.read_bytes())

    def facts(self, provider: str, model: str) -> ModelFacts:
        """What is known: exactly, else without a date in the name, else about the model elsewhere.

        The last gives windows and capabilities but no price: another seller's would be a wrong one.
        """
        for name in _names(model):
            for seller in (provider, _SAME_PRICES.get(provider, "")):
                row = self._models.get(seller, {}).get(name)
                if row is not None:
                    return self._facts(row)
        for name in _names(model.rsplit("/", 1)[-1]):
            for maker in _MAKERS:
                row = self._models.get(maker, {}).get(name)
                if row is not None:
                    return replace(
                        self._facts(row),
                        input_usd_per_token=None,
                        output_usd_per_token=None,
                        cached_input_usd_per_token=None,
                    )
        return ModelFacts()

    def provider_of(self, model: str) -> str | None:
        """The provider of a name without prefix, as LiteLLM would guess it; `None` if nobody knows."""
        for maker in _BARE:
            if any(name in self._models.get(maker, {}) for name in _names(model)):
                return maker
        match = _FAMILIES.match(model)
        return match.lastgroup if match else None

    def _facts(self, row: list[Any]) -> ModelFacts:
        mode, read, written, cached, context, longest, bits = row + [None] * (7 - len(row))
        known = None
        if bits is not None:
            known = frozenset(flag for bit, flag in enumerate(self._flags) if bits >> bit & 1)
        return ModelFacts(
            input_usd_per_token=_per_token(read),
            output_usd_per_token=_per_token(written),
            cached_input_usd_per_token=_per_token(cached),
            context_tokens=context,
            max_output_tokens=longest,
            capabilities=known,
            mode=self._modes[mode],
            source=f"table of {self.date}",
        )


def cost_usd(facts: ModelFacts, usage: Usage) -> float | None:
    """What these tokens cost; `None` if a count or a price that matters is not known, never a guess.

    Cached input is billed at its own price where there is one, else like any input.
    """
    read, written = usage.input_tokens, usage.output_tokens
    if read is None or written is None:
        return None
    cached_price = facts.cached_input_usd_per_token
    cached = 0 if cached_price is None else min(usage.cached_input_tokens or 0, read)
    plain = predicted_cost_usd(facts, read - cached, written)
    return plain if plain is None or cached_price is None else plain + cached * cached_price


def predicted_cost_usd(facts: ModelFacts, input_tokens: int, output_tokens: int) -> float | None:
    """What so many tokens would cost without a cache; `None` if a price that matters is not known."""
    read, written = facts.input_usd_per_token, facts.output_usd_per_token
    if (read is None and input_tokens) or (written is None and output_tokens):
        return None
    return (read or 0.0) * input_tokens + (written or 0.0) * output_tokens


def _per_token(per_million: float | None) -> float | None:
    return None if per_million is None else per_million / 1e6


def _names(model: str) -> Iterator[str]:
    """The name, the base of a fine-tuned one, and both without the date of their release."""
    yield model
    base = ":".join(model.split(":")[:2]) if model.startswith("ft:") else model
    if base != model:
        yield base
    undated = _DATE.sub("", base)
    if undated != base:
        yield undated
