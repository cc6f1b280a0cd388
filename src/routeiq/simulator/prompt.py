"""Reading a request body as far as an answer depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routeiq.types import Capability, JsonObject, Operation

from .errors import ApiError
from .models import SimulatedModel

_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 85
CHARACTERS_PER_TOKEN = 4
_PARTS: Mapping[str, Capability] = {
    "image_url": Capability.VISION,
    "input_image": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "file": Capability.PDF,
    "input_file": Capability.PDF,
}
_FORMATS: Mapping[str, Capability] = {
    "json_object": Capability.JSON_OBJECT,
    "json_schema": Capability.JSON_SCHEMA,
}
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(slots=True)
class Prompt:
    """`text` is the last user turn, `tool` the name and parameters of the tool that must be called."""

    text: str = ""
    characters: int = 0
    input_tokens: int = 0
    needs: set[Capability] = field(default_factory=set)
    tool: tuple[str, JsonObject] | None = None
    schema: JsonObject | None = None
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False


def read_prompt(operation: Operation, body: JsonObject, model: SimulatedModel) -> Prompt:
    """What `body` asks.

    Raises:
        ApiError: 400, as OpenAI does: wrong types, too long for the model, a capability it lacks.
    """
    prompt = Prompt(stream=body.get("stream") is True)
    if operation == "chat":
        _read_messages(prompt, body, "messages")
    elif operation == "responses":
        _read_messages(prompt, body, "input")
    else:
        _read_texts(prompt, body, "prompt" if operation == "completions" else "input")
    prompt.include_usage = _dict(body.get("stream_options")).get("include_usage") is True
    prompt.max_tokens = next((n for k in _LIMITS if isinstance(n := body.get(k), int)), None)
    prompt.input_tokens += prompt.characters // CHARACTERS_PER_TOKEN + 1
    _check(prompt, model)
    return prompt


def _dict(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _read_texts(prompt: Prompt, body: JsonObject, param: str) -> None:
    value = body.get(param)
    for text in value if isinstance(value, list) and value else [value]:
        if isinstance(text, str):
            prompt.text = text
            prompt.characters += len(text)
        elif isinstance(text, int):  # already tokens
            prompt.input_tokens += 1
        elif isinstance(text, list) and text:
            prompt.input_tokens += len(text)
        else:
            raise ApiError(400, f"'{param}' must be a string or an array.", param=param)


def _read_messages(prompt: Prompt, body: JsonObject, param: str) -> None:
    messages = body.get(param)
    if param == "input" and isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, f"'{param}' must be an array that is not empty.", param=param)
    if isinstance(instructions := body.get("instructions"), str):
        prompt.characters += len(instructions)
    for message in messages:
        if not isinstance(message, dict):
            raise ApiError(400, f"An entry of '{param}' must be an object.", param=param)
        text = _read_content(prompt, message.get("content"), param)
        prompt.input_tokens += _TOKENS_PER_MESSAGE
        prompt.characters += len(text)
        if message.get("role", "user") == "user":
            prompt.text = text
    if body.get("tools"):
        last = messages[-1]
        answered = last.get("role") == "tool" or last.get("type") == "function_call_output"
        _read_tools(prompt, body, answered=answered)
    if body.get("reasoning_effort") or body.get("reasoning"):
        prompt.needs.add(Capability.REASONING)
    wanted = _dict(body.get("response_format") or _dict(body.get("text")).get("format"))
    if (need := _FORMATS.get(str(wanted.get("type")))) is not None:
        prompt.needs.add(need)
        prompt.schema = _dict(_dict(wanted.get("json_schema") or wanted).get("schema"))


def _read_content(prompt: Prompt, content: Any, param: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:  # an assistant's message that only calls tools
        return ""
    if not isinstance(content, list):
        raise ApiError(400, "'content' must be a string or an array of parts.", param=param)
    texts = []
    for part in map(_dict, content):
        need = _PARTS.get(str(part.get("type")))
        if need is not None:
            prompt.needs.add(need)
            prompt.input_tokens += _TOKENS_PER_IMAGE
        elif isinstance(text := part.get("text"), str):
            texts.append(text)
    return "\n".join(texts)


def _read_tools(prompt: Prompt, body: JsonObject, *, answered: bool) -> None:
    prompt.needs.add(Capability.TOOLS)
    choice = body.get("tool_choice")
    named = _dict(_dict(choice).get("function") or choice)
    asked = choice == "required" or named or "use the tool" in prompt.text.lower()
    if not asked or choice == "none" or answered:
        return
    for tool in body["tools"] if isinstance(body["tools"], list) else ():
        function = _dict(_dict(tool).get("function") or tool)
        if named.get("name") in (None, function.get("name")):
            prompt.tool = str(function.get("name")), _dict(function.get("parameters"))
            return
    raise ApiError(400, f"Tool choice {choice!r} is not one of 'tools'.", param="tool_choice")


def _check(prompt: Prompt, model: SimulatedModel) -> None:
    missing = prompt.needs - model.capabilities
    if missing:
        raise ApiError(
            400,
            f"Model {model.name!r} does not support: {', '.join(sorted(missing))}.",
            code="unsupported_value",
        )
    if prompt.input_tokens > model.context_tokens:
        raise ApiError(
            400,
            f"This model's maximum context length is {model.context_tokens} tokens. However, your "
            f"messages resulted in {prompt.input_tokens} tokens. Please reduce their length.",
            code="context_length_exceeded",
            param="messages",
        )
