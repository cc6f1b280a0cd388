"""The answer a model gives to a prompt, before it takes the form of one of the APIs."""

from __future__ import annotations

import base64
import re
import zlib
from array import array
from dataclasses import dataclass
from typing import Any

import orjson

from routeiq.types import JsonObject

from .behaviour import Behaviour
from .models import SimulatedModel
from .prompt import CHARACTERS_PER_TOKEN, Prompt

_FILLER = "the answer goes on for as long as this model usually speaks, " * 64
_MOST_TOKENS = 100_000
_WORD = re.compile(r"\w+")
_DEEPEST_SCHEMA = 4
_SIMPLE = {"string": "text", "integer": 1, "number": 1.5, "boolean": True}


@dataclass(slots=True, kw_only=True)
class Answer:
    """`text` is the tool's arguments where `tool` is called; `pieces` are its parts, if it is streamed."""

    id: str
    created: int
    model: str
    text: str
    pieces: list[str]
    finish_reason: str
    right: bool
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    tool: str | None
    count_usage: bool


def answer(
    model: SimulatedModel, prompt: Prompt, steer: Behaviour, *, number: int = 0, created: int = 0
) -> Answer:
    """What `model` says to `prompt`: the same every time, but for `number` in its ids and `created`."""
    right = model.is_right(prompt.text)
    tokens, reason = model.output_tokens if steer.tokens is None else steer.tokens, "stop"
    if prompt.max_tokens is not None and prompt.max_tokens < tokens:
        tokens, reason = max(prompt.max_tokens, 0), "length"
    tokens = min(tokens, _MOST_TOKENS)
    if prompt.tool is not None:
        text, reason = orjson.dumps(example(prompt.tool[1])).decode(), "tool_calls"
    elif prompt.schema is not None:
        text = orjson.dumps(example(prompt.schema) or {"right": right}).decode()
    else:
        text = _words(model, right, tokens)
    count = tokens if steer.chunks is None else steer.chunks
    return Answer(
        id=f"sim{number}",
        created=created,
        model=model.name,
        text=text,
        pieces=_cut(text, count) if prompt.stream else [],
        finish_reason="content_filter" if steer.content_filter else reason,
        right=right,
        input_tokens=prompt.input_tokens,
        output_tokens=tokens + model.reasoning_tokens,
        reasoning_tokens=model.reasoning_tokens,
        tool=prompt.tool[0] if prompt.tool else None,
        count_usage=not steer.no_usage,
    )


def _words(model: SimulatedModel, right: bool, tokens: int) -> str:
    start = f"{'Right' if right else 'Wrong'} answer by {model.name}: "
    length = tokens * CHARACTERS_PER_TOKEN
    return (start + _FILLER * (length // len(_FILLER) + 1))[:length]


def _cut(text: str, count: int) -> list[str]:
    """`text` in `count` pieces of about the same length (fewer where it is shorter)."""
    count = min(max(count, 1), max(len(text), 1))
    return [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]


def example(schema: Any, root: JsonObject | None = None, depth: int = 0) -> Any:
    """A small value that fits a JSON Schema of the kind that tools and structured outputs use."""
    if not isinstance(schema, dict) or depth > _DEEPEST_SCHEMA:
        return None
    root = schema if root is None else root
    if isinstance(ref := schema.get("$ref"), str):
        schema = _at(root, ref)
    unions = [schema[key] for key in ("anyOf", "oneOf", "allOf") if schema.get(key)]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list):
        return next(iter(schema["enum"]), None)
    if unions and isinstance(unions[0], list):
        return example(unions[0][0], root, depth + 1)
    if kind == "array":
        return [example(schema["items"], root, depth + 1)] if "items" in schema else []
    if isinstance(kind, str) and kind != "object":
        return _SIMPLE.get(kind)
    properties = schema.get("properties")
    named = properties.items() if isinstance(properties, dict) else ()
    return {name: example(value, root, depth + 1) for name, value in named}


def _at(root: JsonObject, ref: str) -> JsonObject:
    found: Any = root
    for key in ref.split("/")[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def embedding(text: str, dimensions: int) -> array[float]:
    """A unit vector from the words of `text` (signed feature hashing): alike texts get alike vectors."""
    vector = array("f", bytes(4 * dimensions))
    for word in _WORD.findall(text.lower()) or [""]:
        digest = zlib.crc32(word.encode())
        vector[digest % dimensions] += 1.0 if digest & 0x8000_0000 else -1.0
    norm = sum(x * x for x in vector) ** 0.5 or 1.0
    return array("f", [x / norm for x in vector])


def embeddings(model: SimulatedModel, body: JsonObject) -> list[JsonObject]:
    """The `data` of an embeddings answer, one entry per input, as floats or base64."""
    value = body["input"]
    inputs = [value] if not isinstance(value, list) or isinstance(value[0], int) else value
    wanted = body.get("dimensions")
    dimensions = (
        wanted if isinstance(wanted, int) and 0 < wanted <= 8192 else model.embedding_dimensions
    )
    data = []
    for index, text in enumerate(inputs):
        vector = embedding(text if isinstance(text, str) else str(text), dimensions or 1)
        packed = body.get("encoding_format") == "base64"
        shown = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    return data
