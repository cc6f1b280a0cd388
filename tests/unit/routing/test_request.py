from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.exceptions import InvalidRequest
from routeiq.routing.request import TEXT_LIMIT, parse_request
from routeiq.types import Capability, Operation, RoutingRequest

USER = {"role": "user", "content": "Hello there"}


def parse(body: dict[str, Any], operation: Operation = "chat") -> RoutingRequest:
    return parse_request(operation, body, id="r")


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": list(messages) or [USER], **more}


def test_chat_reads_last_user_turn_system_turns_and_tokens() -> None:
    request = parse(
        chat(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "No"},
        )
    )
    assert (request.text, request.system, request.turns) == ("Two", "Be brief.", 2)
    assert request.input_tokens == 5 * 4 + 3 + 1 + 1 + 1 + 1


def test_header_values_are_carried() -> None:
    request = parse_request(
        "chat",
        chat(),
        id="r",
        profile="eco",
        tags=frozenset({"a"}),
        session_id="s",
        hint="h",
        region="eu",
    )
    assert (request.profile, request.tags, request.session_id, request.hint, request.region) == (
        "eco",
        frozenset({"a"}),
        "s",
        "h",
        "eu",
    )


@pytest.mark.parametrize("stream", [True, False, None])
def test_stream_is_read(stream: bool | None) -> None:
    assert parse(chat(stream=stream)).stream is bool(stream)


def test_developer_message_is_the_system_prompt() -> None:
    assert parse(chat({"role": "developer", "content": "D"}, USER)).system == "D"


def test_text_without_a_user_turn_is_the_last_message() -> None:
    request = parse(chat({"role": "system", "content": "only"}))
    assert (request.text, request.turns) == ("only", 1)


def test_list_content_is_joined_and_its_parts_counted() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "And that?"},
        {"type": ["odd"], "text": 5},
    ]
    request = parse(chat({"role": "user", "content": parts}))
    assert request.text == "What is this?\nAnd that?"
    assert request.needs == {Capability.VISION}
    assert request.input_tokens == 4 + 4 + 3 + 1000


def test_tool_history_without_content_is_accepted_and_counted() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "x" * 40}}
    request = parse(
        chat(
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call, None, {"function": 1}]},
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
        )
    )
    assert request.input_tokens == 3 * 4 + 3 + 10 + 1
    assert request.text == "Hello there"


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"tools": [{"type": "function"}]}, {Capability.TOOLS}),
        ({"tools": []}, set()),
        ({"functions": [{}]}, {Capability.TOOLS}),
        ({"tools": [{}], "parallel_tool_calls": True}, {Capability.TOOLS}),
        ({"response_format": {"type": "json_object"}}, {Capability.JSON_OBJECT}),
        ({"response_format": {"type": "json_schema"}}, {Capability.JSON_SCHEMA}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": {}}}, set()),
        ({"reasoning_effort": "high"}, {Capability.REASONING}),
        ({"reasoning_effort": "none"}, set()),
        ({"reasoning": {"effort": "low"}}, {Capability.REASONING}),
        ({"modalities": ["text", "audio"]}, {Capability.AUDIO_OUTPUT}),
        ({"text": {"format": {"type": "json_schema"}}}, {Capability.JSON_SCHEMA}),
    ],
)
def test_needs_come_from_the_options(more: dict[str, Any], needs: set[Capability]) -> None:
    assert parse(chat(**more)).needs == needs


@pytest.mark.parametrize(
    ("kind", "need"),
    [
        ("image_url", Capability.VISION),
        ("input_image", Capability.VISION),
        ("input_audio", Capability.AUDIO_INPUT),
        ("file", Capability.PDF),
        ("input_file", Capability.PDF),
    ],
)
def test_needs_come_from_the_parts(kind: str, need: Capability) -> None:
    assert parse(chat({"role": "user", "content": [{"type": kind}]})).needs == {need}


def test_tools_add_to_the_estimate() -> None:
    more = parse(chat(tools=[{}, {}])).input_tokens - parse(chat()).input_tokens
    assert more == 240


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("chat", "max_tokens"),
        ("chat", "max_completion_tokens"),
        ("completions", "max_tokens"),
        ("responses", "max_output_tokens"),
    ],
)
def test_output_limit_is_read_where_the_operation_has_it(operation: Operation, name: str) -> None:
    body = {"model": "m", "messages": [USER], "prompt": "p", "input": "i"}
    assert parse(body | {name: 7}, operation).max_output_tokens == 7
    assert parse(body | {name: -1}, operation).max_output_tokens is None
    assert parse(body, operation).max_output_tokens is None


def test_choices_are_read() -> None:
    assert parse(chat(n=3)).choices == 3
    assert parse(chat()).choices == 1


@pytest.mark.parametrize(
    ("given", "text", "tokens"),
    [
        ("abcd", "abcd", 1),
        (["abcd", "efgh"], "efgh", 2),
        ([1, 2, 3], "", 3),
        ([[1, 2], [3]], "", 3),
    ],
)
def test_prompts_and_inputs_take_strings_and_token_ids(given: Any, text: str, tokens: int) -> None:
    for operation, name in (("completions", "prompt"), ("embeddings", "input")):
        request = parse({"model": "m", name: given}, operation)  # type: ignore[arg-type]
        assert (request.text, request.input_tokens) == (text, tokens)


def test_responses_read_instructions_and_text_input() -> None:
    request = parse({"model": "m", "instructions": "Be nice.", "input": "abcd"}, "responses")
    assert (request.text, request.system, request.input_tokens) == ("abcd", "Be nice.", 2 + 1 + 4)


def test_responses_read_items() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "name": "f", "arguments": "abcd"},
        {"type": "function_call_output", "output": "efgh"},
    ]
    request = parse({"model": "m", "input": items}, "responses")
    assert (request.text, request.input_tokens) == ("Hi", 12 + 1 + 1 + 1)


@pytest.mark.parametrize("name", ["prompt", "previous_response_id", "conversation"])
def test_responses_may_leave_the_input_out(name: str) -> None:
    assert parse({"model": "m", name: "x"}, "responses").text == ""


def test_long_text_keeps_its_beginning_and_end() -> None:
    for content in ("a" * 5000 + "z" * 5000, [{"type": "text", "text": "a" * 5000 + "z" * 5000}]):
        text = parse(chat({"role": "user", "content": content})).text
        assert text[0] == "a"
        assert text[-1] == "z"
        assert len(text) == TEXT_LIMIT + 1


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        ("chat", {"messages": [USER]}, "model"),
        ("chat", {"model": "", "messages": [USER]}, "model"),
        ("chat", {"model": 5, "messages": [USER]}, "model"),
        ("chat", chat(stream="yes"), "stream"),
        ("chat", chat(stream=1), "stream"),
        ("chat", {"model": "m"}, "messages"),
        ("chat", {"model": "m", "messages": []}, "messages"),
        ("chat", {"model": "m", "messages": "hi"}, "messages"),
        ("chat", {"model": "m", "messages": ["hi"]}, "messages[0]"),
        ("chat", chat({"role": "user", "content": 5}), "messages[0].content"),
        ("chat", chat(USER, {"role": "user", "content": ["x"]}), "messages[1].content[0]"),
        ("chat", chat(max_tokens="7"), "max_tokens"),
        ("chat", chat(max_completion_tokens=7.5), "max_completion_tokens"),
        ("chat", chat(max_tokens=True), "max_tokens"),
        ("chat", chat(n=0), "n"),
        ("chat", chat(n=129), "n"),
        ("chat", chat(n="2"), "n"),
        ("completions", {"model": "m"}, "prompt"),
        ("completions", {"model": "m", "prompt": []}, "prompt"),
        ("completions", {"model": "m", "prompt": [None]}, "prompt[0]"),
        ("embeddings", {"model": "m"}, "input"),
        ("embeddings", {"model": "m", "input": ""}, "input"),
        ("embeddings", {"model": "m", "input": {"a": 1}}, "input"),
        ("responses", {"model": "m"}, "input"),
        ("responses", {"model": "m", "input": []}, "input"),
        ("responses", {"model": "m", "input": [1]}, "input[0]"),
    ],
)
def test_bad_input_names_the_parameter(
    operation: Operation, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, operation)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message


def test_error_messages_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse({"model": ["secret prompt"], "messages": [USER]})
    assert "secret" not in caught.value.message
    assert "list" in caught.value.message


TEXT = st.text(alphabet="a漢\ud800", max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-2, 200) | st.floats() | TEXT
NAMES = st.sampled_from(
    (
        *("messages", "input", "prompt", "stream", "n", "tools", "max_tokens", "response_format"),
        *("reasoning", "text", "modalities", "instructions", "role", "content", "type"),
        *("tool_calls", "function", "arguments", "output"),
    )
)
OBJECTS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=3)
MESSAGES = st.lists(st.dictionaries(NAMES, SCALARS | st.lists(OBJECTS, max_size=2), max_size=3))
BODIES = st.dictionaries(NAMES, SCALARS | OBJECTS | MESSAGES, max_size=4)


@given(BODIES, st.sampled_from(["chat", "completions", "embeddings", "responses"]))
def test_any_body_gives_a_request_or_a_named_parameter(
    body: dict[str, Any], operation: Operation
) -> None:
    param: str | None = "none"
    try:
        request = parse({"model": "m", **body}, operation)
    except InvalidRequest as error:
        param = error.param
    else:
        assert request.input_tokens >= 0
        assert len(request.text) <= TEXT_LIMIT + 1
    assert param
