from __future__ import annotations

from typing import Any

import pytest

from routeiq.simulator import SimulatedModel
from routeiq.simulator.errors import ApiError
from routeiq.simulator.prompt import Prompt, read_prompt
from routeiq.types import Capability, Operation

MODEL = SimulatedModel(name="m", context_tokens=1_000)
BASIC = SimulatedModel(name="basic", capabilities=frozenset())
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


def chat(content: Any, model: SimulatedModel = MODEL, **fields: Any) -> Prompt:
    return read_prompt("chat", {"messages": [user(content)], **fields}, model)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_text_is_the_last_user_turn_and_all_messages_count() -> None:
    messages = [user("first"), {"role": "assistant", "content": None}, user("second")]
    prompt = read_prompt("chat", {"messages": messages}, MODEL)
    assert prompt.text == "second"
    assert prompt.input_tokens == 3 * 4 + len("firstsecond") // 4 + 1


def test_images_are_counted_and_needed() -> None:
    with_image = chat([{"type": "text", "text": "look"}, IMAGE])
    assert with_image.input_tokens == chat("look").input_tokens + 85
    assert with_image.needs == {Capability.VISION}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        {"messages": [user([IMAGE])]},
        {"messages": [user([{"type": "input_audio", "input_audio": {}}])]},
        {"messages": [user([{"type": "file", "file": {}}])]},
        {"reasoning_effort": "high"},
    ],
)
def test_a_missing_capability_is_400(fields: dict[str, Any]) -> None:
    chat("x", **fields)
    with pytest.raises(ApiError, match="does not support") as error:
        chat("x", BASIC, **fields)
    assert error.value.status == 400


def test_a_prompt_longer_than_the_window_is_refused_as_openai_does() -> None:
    with pytest.raises(ApiError, match="maximum context length is 1000 tokens") as error:
        chat("x" * 4_000)
    assert error.value.body["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("content", "fields", "called"),
    [
        ("hello", {}, False),
        ("hello", {"tool_choice": "auto"}, False),
        ("hello", {"tool_choice": "required"}, True),
        ("hello", {"tool_choice": {"type": "function", "function": {"name": "look"}}}, True),
        ("hello", {"tool_choice": {"type": "function", "name": "look"}}, True),
        ("Please use the tool.", {}, True),
        ("Please use the tool.", {"tool_choice": "none"}, False),
    ],
)
def test_a_tool_is_called_when_forced_or_asked_for(
    content: str, fields: dict[str, Any], called: bool
) -> None:
    assert (chat(content, tools=[TOOL], **fields).tool is not None) is called


def test_a_tool_that_answered_is_not_called_again() -> None:
    messages = [user("use the tool"), {"role": "tool", "tool_call_id": "c", "content": "42"}]
    assert read_prompt("chat", {"messages": messages, "tools": [TOOL]}, MODEL).tool is None


def test_an_unknown_tool_choice_is_400() -> None:
    with pytest.raises(ApiError, match="'fly'"):
        chat("x", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "fly"}})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_limits_are_read(name: str) -> None:
    fields: dict[str, Any] = {name: 5}
    assert chat("x", **fields).max_tokens == 5


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("chat", {}),
        ("chat", {"messages": []}),
        ("chat", {"messages": "hello"}),
        ("chat", {"messages": ["hello"]}),
        ("chat", {"messages": [{"role": "user", "content": 5}]}),
        ("responses", {"input": 5}),
        ("completions", {}),
        ("embeddings", {"input": [{"a": 1}]}),
        ("embeddings", {"input": []}),
        ("embeddings", {"input": [[]]}),
    ],
)
def test_wrong_types_are_400(operation: Operation, body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as error:
        read_prompt(operation, body, MODEL)
    assert error.value.status == 400


def test_tokens_are_accepted_instead_of_text() -> None:
    assert read_prompt("completions", {"prompt": [1, 2, 3]}, MODEL).input_tokens == 4
    assert read_prompt("embeddings", {"input": [[1, 2], [3]]}, MODEL).input_tokens == 4


def test_instructions_count() -> None:
    plain = read_prompt("responses", {"input": "hi"}, MODEL)
    instructed = read_prompt("responses", {"input": "hi", "instructions": "x" * 40}, MODEL)
    assert instructed.input_tokens == plain.input_tokens + 10
