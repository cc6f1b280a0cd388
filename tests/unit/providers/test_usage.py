from __future__ import annotations

from typing import Any

import orjson
import pytest

from routeiq.providers.usage import find_usage, read_usage, usage_from_body
from routeiq.types import Operation, Usage

CASES: list[tuple[Operation, dict[str, Any], Usage | None]] = [
    ("chat", {"prompt_tokens": 3, "completion_tokens": 4}, Usage(input_tokens=3, output_tokens=4)),
    (
        "chat",
        {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        Usage(input_tokens=3, output_tokens=4, cached_input_tokens=2, reasoning_tokens=1),
    ),
    (
        "responses",
        {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 1},
        },
        Usage(input_tokens=3, output_tokens=4, cached_input_tokens=0, reasoning_tokens=1),
    ),
    ("embeddings", {"prompt_tokens": 5, "total_tokens": 5}, Usage(input_tokens=5, output_tokens=0)),
    (
        "chat",  # DeepSeek
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8},
        Usage(input_tokens=9, output_tokens=1, cached_input_tokens=8),
    ),
    (
        "chat",  # Moonshot
        {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 7},
        Usage(input_tokens=9, output_tokens=1, cached_input_tokens=7),
    ),
    (
        "chat",  # xAI: reasoning is beside the completion, but billed with it
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 112,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(input_tokens=10, output_tokens=102, reasoning_tokens=100),
    ),
    (
        "chat",  # Perplexity
        {"prompt_tokens": 1, "completion_tokens": 2, "reasoning_tokens": 3, "total_tokens": 3},
        Usage(input_tokens=1, output_tokens=2, reasoning_tokens=3),
    ),
    ("chat", {"prompt_tokens": "3", "completion_tokens": None}, None),
    ("chat", {"prompt_tokens": True, "completion_tokens": -1}, None),
    ("chat", {"prompt_tokens": 1, "prompt_tokens_details": [3]}, Usage(input_tokens=1)),
    ("chat", {}, None),
]


@pytest.mark.parametrize(("operation", "usage", "expected"), CASES)
def test_names_of_every_provider_are_read(
    operation: Operation, usage: dict[str, Any], expected: Usage | None
) -> None:
    body = {"choices": [], "usage": usage}
    assert read_usage(body, operation) == expected
    assert usage_from_body(orjson.dumps(body), operation) == expected
    assert find_usage(orjson.dumps(body), operation) == expected


@pytest.mark.parametrize("holder", ["response", "x_groq"])
def test_nested_usage_is_found(holder: str) -> None:
    payload = {holder: {"usage": {"input_tokens": 1, "output_tokens": 2}}}
    assert read_usage(payload, "responses") == Usage(input_tokens=1, output_tokens=2)


@pytest.mark.parametrize("payload", [{}, {"usage": None}, {"usage": [1]}, {"response": 3}])
def test_missing_usage_is_unknown(payload: dict[str, Any]) -> None:
    assert read_usage(payload, "chat") is None
    assert usage_from_body(orjson.dumps(payload), "chat") is None


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'{"usage":{"a":', b'{"usage":' * 3000])
def test_broken_bodies_have_no_usage(body: bytes) -> None:
    assert usage_from_body(body, "chat") is None
    assert find_usage(body, "chat") is None


def test_hostile_nesting_is_not_followed() -> None:
    assert find_usage(b'{"usage":' + b'{"a":' * 2000, "chat") is None


@pytest.mark.parametrize("first", [True, False])
def test_large_bodies_are_read_wherever_the_usage_stands(first: bool) -> None:
    usage = {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    text = {"text": 'says "usage": {"prompt_tokens": 99} ' * 1000}
    body = {**usage, **text} if first else {**text, **usage}
    assert usage_from_body(orjson.dumps(body), "chat") == Usage(input_tokens=1, output_tokens=2)
