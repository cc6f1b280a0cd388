"""From a JSON body to a `RoutingRequest`: what the router needs is checked, everything else passes.

Only fields that routing reads are validated, and no more strictly than OpenAI does; unknown and
provider-specific fields are the provider's business. The cost is linear in the number of messages and
parts, never in the length of a text: long texts are looked at in samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from routeiq.exceptions import InvalidRequest
from routeiq.types import Capability, GroupAccess, JsonObject, Operation, RoutingRequest

from .tokens import MESSAGE_TOKENS, PART_TOKENS, TOOL_TOKENS, text_tokens

TEXT_LIMIT = 4000
"""Characters of the last user turn that a strategy sees: the first and the last half of them."""

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_PART_NEEDS = {
    "image_url": Capability.VISION,
    "input_image": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "file": Capability.PDF,
    "input_file": Capability.PDF,
}
_FORMAT_NEEDS = {"json_object": Capability.JSON_OBJECT, "json_schema": Capability.JSON_SCHEMA}
_OUTPUT_LIMITS: dict[str, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "embeddings": (),
}
_WITH_CHOICES = frozenset({"chat", "completions"})
_MAX_CHOICES = 128


class _Reading:
    """What one pass over the input found; private to a single call of `parse_request`."""

    __slots__ = ("needs", "system", "text", "tokens", "turns")

    def __init__(self) -> None:
        self.text: Any = None
        self.system: Any = None
        self.turns = 0
        self.tokens = 0
        self.needs: set[Capability] = set()


def parse_request(
    operation: Operation,
    body: JsonObject,
    *,
    id: str,
    profile: str | None = None,
    tags: frozenset[str] = frozenset(),
    session_id: str | None = None,
    hint: str | None = None,
    region: str | None = None,
    caller: str | None = None,
    access: GroupAccess | None = None,
) -> RoutingRequest:
    """Read what routing needs from the body of an OpenAI request.

    Raises:
        InvalidRequest: a field that routing reads is missing or of the wrong type; `param` names it.
    """
    model = body.get("model")
    if type(model) is not str or not model:
        raise _wrong("model", "the name of a model, as a non-empty string", model)
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise _wrong("stream", "true or false", stream)
    reading = _Reading()
    _READERS[operation](body, reading)
    if operation != "embeddings":
        _read_options(body, reading)
    return RoutingRequest(
        id=id,
        operation=operation,
        model=model,
        text=_bounded(reading.text),
        system=_bounded(reading.system),
        turns=reading.turns or 1,
        input_tokens=reading.tokens,
        max_output_tokens=_output_limit(operation, body),
        choices=_choices(body) if operation in _WITH_CHOICES else 1,
        needs=frozenset(reading.needs),
        stream=stream is True,
        profile=profile,
        tags=tags,
        region=region,
        session_id=session_id,
        hint=hint,
        caller=caller,
        access=access,
    )


def _read_chat(body: JsonObject, reading: _Reading) -> None:
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise _wrong("messages", "a list with at least one message", messages)
    _read_messages(messages, "messages", reading)


def _read_responses(body: JsonObject, reading: _Reading) -> None:
    instructions = body.get("instructions")
    if type(instructions) is str:
        reading.system = instructions
        reading.tokens += text_tokens(instructions)
    given = body.get("input")
    if type(given) is str and given:
        reading.text = given
        reading.tokens += text_tokens(given) + MESSAGE_TOKENS
    elif type(given) is list and given:
        _read_messages(given, "input", reading)
    elif given is not None or not any(
        body.get(name) for name in ("prompt", "previous_response_id", "conversation")
    ):
        raise _wrong("input", "a non-empty string or list of items", given)


def _read_prompt(body: JsonObject, reading: _Reading, name: str = "prompt") -> None:
    given = body.get(name)
    if type(given) is str and given:
        reading.text = given
        reading.tokens = text_tokens(given)
        return
    if type(given) is not list or not given:
        raise _wrong(name, "a non-empty string, or a list of strings or token ids", given)
    if type(given[0]) is int:  # one prompt as token ids
        reading.tokens = len(given)
        return
    for index, prompt in enumerate(given):
        if type(prompt) is str:
            reading.text = prompt
            reading.tokens += text_tokens(prompt)
        elif type(prompt) is list:
            reading.tokens += len(prompt)
        else:
            raise _wrong(f"{name}[{index}]", "a string or a list of token ids", prompt)


def _read_messages(messages: list[Any], name: str, reading: _Reading) -> None:
    """Chat messages, or the items of a response's input (which may have no role and no content)."""
    tokens = 0
    last: Any = None
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise _wrong(f"{name}[{index}]", "an object", message)
        content = message.get("content")
        if type(content) is str:
            tokens += text_tokens(content)
        elif type(content) is list:
            tokens += _read_parts(content, f"{name}[{index}].content", reading)
        elif content is not None:
            raise _wrong(f"{name}[{index}].content", "a string, a list of parts or null", content)
        else:
            tokens += _call_tokens(message)
        role = message.get("role")
        if role == "user":
            reading.turns += 1
            last = content
        elif reading.system is None and role in ("system", "developer"):
            reading.system = content
    reading.tokens += tokens + MESSAGE_TOKENS * len(messages)
    reading.text = last if reading.turns else messages[-1].get("content")


def _read_parts(parts: list[Any], name: str, reading: _Reading) -> int:
    tokens = 0
    for index, part in enumerate(parts):
        if type(part) is not dict:
            raise _wrong(f"{name}[{index}]", "an object with a `type`", part)
        text = part.get("text")
        if type(text) is str:
            tokens += text_tokens(text)
        kind = part.get("type")
        need = _PART_NEEDS.get(kind) if type(kind) is str else None
        if need is not None:
            reading.needs.add(need)
            tokens += PART_TOKENS[need]
    return tokens


def _call_tokens(message: JsonObject) -> int:
    """Tokens of tool calls and tool results that stand outside `content`."""
    tokens = 0
    for name in ("arguments", "output"):  # items of a response's input
        if type(message.get(name)) is str:
            tokens += text_tokens(message[name])
    calls = message.get("tool_calls")
    for call in calls if type(calls) is list else ():
        function = call.get("function") if type(call) is dict else None
        if type(function) is dict and type(function.get("arguments")) is str:
            tokens += text_tokens(function["arguments"])
    return tokens


def _read_options(body: JsonObject, reading: _Reading) -> None:
    """What the request asks of a model beside its text.

    `parallel_tool_calls: true` is no need: it allows several calls at once, it does not demand them.
    """
    needs = reading.needs
    tools = body.get("tools") or body.get("functions")
    if type(tools) is list:
        needs.add(Capability.TOOLS)
        reading.tokens += TOOL_TOKENS * len(tools)
    form = body.get("response_format")
    if form is None and type(body.get("text")) is dict:
        form = body["text"].get("format")
    if type(form) is dict and form.get("type") in ("json_object", "json_schema"):
        needs.add(_FORMAT_NEEDS[form["type"]])
    effort = body.get("reasoning_effort")
    if effort is None and type(body.get("reasoning")) is dict:
        effort = body["reasoning"].get("effort")
    if type(effort) is str and effort != "none":
        needs.add(Capability.REASONING)
    modalities = body.get("modalities")
    if type(modalities) is list and "audio" in modalities:
        needs.add(Capability.AUDIO_OUTPUT)


def _output_limit(operation: Operation, body: JsonObject) -> int | None:
    for name in _OUTPUT_LIMITS[operation]:
        limit = body.get(name)
        if limit is not None:
            if type(limit) is not int:
                raise _wrong(name, "a whole number of tokens", limit)
            return limit if limit >= 0 else None  # some servers take -1 for "no limit"
    return None


def _choices(body: JsonObject) -> int:
    choices = body.get("n")
    if choices is None:
        return 1
    if type(choices) is not int or not 1 <= choices <= _MAX_CHOICES:
        raise _wrong("n", f"a whole number from 1 to {_MAX_CHOICES}", choices)
    return choices


def _bounded(content: Any) -> str:
    """The text of a message's content, at most `TEXT_LIMIT` characters (and a line break)."""
    if type(content) is str:
        if len(content) <= TEXT_LIMIT:
            return content
        return f"{content[: TEXT_LIMIT // 2]}\n{content[-TEXT_LIMIT // 2 :]}"
    if type(content) is list:
        return _bounded("\n".join(_part_texts(content)))
    return ""


def _part_texts(parts: list[Any]) -> Iterable[str]:
    for part in parts:
        kind, text = part.get("type"), part.get("text")
        if type(text) is str and type(kind) is str and kind in _TEXT_PARTS:
            yield _bounded(text)


def _wrong(param: str, expected: str, value: Any) -> InvalidRequest:
    if value is None:
        return InvalidRequest(f"`{param}` is missing: it must be {expected}.", param=param)
    shown = repr(value) if type(value) in (int, float, bool) else type(value).__name__
    if value in ("", []):
        shown = "an empty one"
    return InvalidRequest(f"`{param}` must be {expected}, not {shown}.", param=param)


_READERS: dict[str, Callable[[JsonObject, _Reading], None]] = {
    "chat": _read_chat,
    "completions": _read_prompt,
    "embeddings": partial(_read_prompt, name="input"),
    "responses": _read_responses,
}
