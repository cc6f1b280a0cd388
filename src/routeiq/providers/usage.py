"""Token counts out of what providers answer, without reading more of it than is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from routeiq.types import Operation, Usage

# Providers write `usage` after the answer itself, so the end of a body nearly always holds it.
_TAIL_BYTES = 4096
# Below this, parsing everything is as fast (measured).
_SMALL_BYTES = 2048
# Nobody counts this many: a larger number is nonsense, and one above 64 bits could not be logged.
_MOST_TOKENS = 10**12
_DECODER = json.JSONDecoder()
_CHAT_NAMES = (
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
)
_RESPONSES_NAMES = (
    "input_tokens",
    "output_tokens",
    "input_tokens_details",
    "output_tokens_details",
)


def read_usage(payload: Mapping[str, Any], operation: Operation) -> Usage | None:
    """The counts in a body or a stream's event; `None` where there are none that make sense.

    Knows the names of chat, completions and embeddings (`prompt_tokens`), of responses
    (`input_tokens`, inside `response` in a stream), and Groq's `x_groq`.
    """
    found = _parse(payload.get("usage"), operation)
    if found is not None:
        return found
    for name in ("response", "x_groq"):
        holder = payload.get(name)
        if type(holder) is dict:
            found = _parse(holder.get("usage"), operation)
            if found is not None:
                return found
    return None


def find_usage(data: bytes, operation: Operation) -> Usage | None:
    """The last usage object in `data`, which may be any piece of JSON or of an event stream."""
    at = data.rfind(b'"usage"')
    while at >= 0:
        value = data[at + 7 : at + _TAIL_BYTES].lstrip(b" \t\r\n:")
        if value.startswith(b"{"):
            try:
                usage, _ = _DECODER.raw_decode(value.decode("utf-8", "replace"))
            except (ValueError, RecursionError):  # cut off, or hostile nesting: look further ahead
                usage = None
            found = _parse(usage, operation)
            if found is not None:
                return found
        at = data.rfind(b'"usage"', 0, at)
    return None


def usage_from_body(body: bytes, operation: Operation) -> Usage | None:
    """The counts in a whole (not streamed) answer; `None` if it has none or is not JSON.

    The tail is searched first: a 1 MB embedding answer then costs microseconds, not milliseconds.
    """
    if len(body) > _SMALL_BYTES:
        found = find_usage(body[-_TAIL_BYTES:], operation)
        if found is not None or body.rfind(b'"usage"') < 0:
            return found
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return read_usage(payload, operation) if isinstance(payload, dict) else None


def _parse(usage: Any, operation: Operation) -> Usage | None:
    """`Usage` from the provider's own object; a count of the wrong type is not known, not an error."""
    if type(usage) is not dict:
        return None
    get = usage.get
    chat = "prompt_tokens" in usage or "completion_tokens" in usage
    names = _CHAT_NAMES if chat else _RESPONSES_NAMES
    read, written = get(names[0]), get(names[1])
    if type(read) is not int or not 0 <= read <= _MOST_TOKENS:
        read = None
    if type(written) is not int or not 0 <= written <= _MOST_TOKENS:
        written = None
    if read is None and written is None:
        return None
    cached = _detail(get(names[2]), "cached_tokens")
    if cached is None:  # DeepSeek, Moonshot
        cached = _count(get("prompt_cache_hit_tokens", get("cached_tokens")))
    reasoning = _detail(get(names[3]), "reasoning_tokens")
    if reasoning is None:  # Perplexity
        reasoning = _count(get("reasoning_tokens"))
    if (
        reasoning
        and written is not None
        and get("total_tokens") == (read or 0) + written + reasoning
    ):
        written += reasoning  # xAI bills reasoning as output but counts it beside it
    if operation == "embeddings" and written is None:
        written = 0
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=cached,
        reasoning_tokens=reasoning,
    )


def _detail(details: Any, name: str) -> int | None:
    return _count(details.get(name)) if type(details) is dict else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
