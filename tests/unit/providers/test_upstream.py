from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.exceptions import ConnectFailed, InvalidRequest
from routeiq.providers.dialects import DIALECTS
from routeiq.providers.upstream import Call, TokenFile, Upstream, Urls, header_value
from routeiq.types import JsonObject, Operation

URLS: Urls = {
    "chat": ("https://p/v1/chat/completions", None),
    "completions": ("https://p/v1/completions", None),
    "embeddings": ("https://p/v1/embeddings", None),
    "responses": ("https://p/v1/responses", None),
}
BODY: JsonObject = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def upstream(name: str = "openai", **options: Any) -> Upstream:
    options = {"urls": URLS, "headers": ((b"a", b"b"),), "params": {}, **options}
    return Upstream(dialect=DIALECTS[name], **options)


def call(
    target: Upstream,
    body: JsonObject,
    *,
    model: str = "m",
    operation: Operation = "chat",
    stream: bool = False,
    asked: bool = False,
) -> Call:
    return target.prepare(operation, body, model, stream=stream, client_asked_usage=asked)


def sent(target: Upstream, body: JsonObject, **options: Any) -> JsonObject:
    result: JsonObject = orjson.loads(call(target, body, **options).body)
    return result


def test_only_the_model_changes_and_unknown_fields_pass() -> None:
    body = {**BODY, "made_up": {"deep": [1, None]}, "temperature": 0.1}
    prepared = call(upstream(), body, model="gpt-4o")
    assert orjson.loads(prepared.body) == {**body, "model": "gpt-4o"}
    assert prepared.url == "https://p/v1/chat/completions"
    assert prepared.headers == ((b"a", b"b"),)
    assert prepared.strip_usage is False


def test_clients_body_is_not_changed() -> None:
    body = {**BODY, "max_completion_tokens": 5, "stream": True, "stream_options": {"x": 1}}
    before = orjson.dumps(body)
    call(upstream("deepseek", params={"temperature": 1}), body, stream=True)
    assert orjson.dumps(body) == before


def test_defaults_fill_only_what_the_client_left_out() -> None:
    target = upstream(params={"temperature": 0.5, "top_p": 0.9})
    result = sent(target, {**BODY, "temperature": 0})
    assert (result["temperature"], result["top_p"]) == (0, 0.9)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_default_length_yields_to_the_clients_under_either_name(name: str) -> None:
    result = sent(upstream(params={"max_tokens": 100}), {**BODY, name: 7})
    assert {k: v for k, v in result.items() if k.startswith("max")} == {name: 7}


def test_defaults_fit_the_operation() -> None:
    target = upstream(params={"max_tokens": 9, "temperature": 0.2, "stop": "x", "dimensions": 8})
    embeddings = sent(target, {"input": "a"}, operation="embeddings")
    assert embeddings == {"input": "a", "model": "m", "dimensions": 8}
    responses = sent(target, {"input": "a"}, operation="responses")
    assert responses["max_output_tokens"] == 9
    assert "stop" not in responses
    assert "max_tokens" not in responses


def test_usage_is_asked_for_in_streams_and_marked_for_removal() -> None:
    prepared = call(upstream(), {**BODY, "stream": True}, stream=True)
    assert orjson.loads(prepared.body)["stream_options"] == {"include_usage": True}
    assert prepared.strip_usage is True


@pytest.mark.parametrize(
    "options", [None, {"include_usage": False}, {"include_obfuscation": False}]
)
def test_usage_is_added_to_the_clients_stream_options(options: JsonObject | None) -> None:
    result = sent(upstream(), {**BODY, "stream_options": options}, stream=True)
    assert result["stream_options"] == {**(options or {}), "include_usage": True}


@pytest.mark.parametrize(
    ("name", "stream", "asked", "operation"),
    [
        ("openai", False, False, "chat"),
        ("openai", True, True, "chat"),
        ("openai", True, False, "responses"),
        ("mistral", True, False, "chat"),
    ],
)
def test_usage_is_not_asked_for(name: str, stream: bool, asked: bool, operation: Operation) -> None:
    prepared = call(upstream(name), BODY, stream=stream, asked=asked, operation=operation)
    assert b"stream_options" not in prepared.body
    assert prepared.strip_usage is False


def test_usage_is_not_asked_for_where_the_operator_drops_the_option() -> None:
    prepared = call(upstream(drops=("stream_options",)), BODY, stream=True)
    assert b"stream_options" not in prepared.body
    assert prepared.strip_usage is False


def test_stream_options_are_dropped_for_providers_that_refuse_them() -> None:
    body = {**BODY, "stream_options": {"include_usage": True}}
    assert "stream_options" not in sent(upstream("mistral"), body, stream=True, asked=True)


def test_renamed_field_wins_over_the_older_name() -> None:
    result = sent(upstream("deepseek"), {**BODY, "max_tokens": 1, "max_completion_tokens": 2})
    assert (result["max_tokens"], "max_completion_tokens" in result) == (2, False)


@pytest.mark.parametrize(
    ("model", "newer"), [("o3-mini", True), ("gpt-5", True), ("gpt-4o", False)]
)
def test_reasoning_models_get_the_newer_name(model: str, newer: bool) -> None:
    result = sent(upstream(), {**BODY, "max_tokens": 3}, model=model)
    assert ("max_completion_tokens" in result, "max_tokens" in result) == (newer, not newer)


@pytest.mark.parametrize("drop", [True, False])
def test_unsupported_fields_are_dropped_only_on_request(drop: bool) -> None:
    result = sent(upstream("groq", drop_params=drop), {**BODY, "logit_bias": {"1": 2}})
    assert ("logit_bias" in result) is not drop


def test_additional_fields_are_dropped() -> None:
    assert "user" not in sent(upstream(drops=("user",)), {**BODY, "user": "me"})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama-v3", "accounts/fireworks/models/llama-v3"),
        ("accounts/me/models/x", "accounts/me/models/x"),
    ],
)
def test_short_names_get_the_providers_prefix(model: str, expected: str) -> None:
    assert sent(upstream("fireworks_ai"), BODY, model=model)["model"] == expected


def test_model_goes_into_the_url_where_it_belongs_there() -> None:
    target = upstream("azure", urls={"chat": ("https://a/deployments/", "/chat?v=1")})
    assert call(target, BODY, model="a/b ?").url == "https://a/deployments/a%2Fb%20%3F/chat?v=1"


def test_operation_that_is_not_served_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="/embeddings"):
        call(upstream(urls={"chat": URLS["chat"]}), BODY, operation="embeddings")


def test_body_that_cannot_be_written_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="passed on"):
        call(upstream(), {**BODY, "x": deep})


def test_only_listed_client_headers_are_forwarded() -> None:
    prepared = upstream().prepare(
        "chat",
        BODY,
        "m",
        stream=False,
        client_asked_usage=False,
        client_headers=[
            (b"authorization", b"Bearer mine"),
            (b"openai-beta", b"x=1"),
            (b"cookie", b"c"),
        ],
    )
    assert prepared.headers == ((b"a", b"b"), (b"openai-beta", b"x=1"))


def test_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    target = upstream("azure", token_file=TokenFile(str(path)))
    assert call(target, BODY).headers[-1] == (b"authorization", b"Bearer one")
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert call(target, BODY).headers[-1] == (b"authorization", b"Bearer two")
    path.unlink()
    assert call(target, BODY).headers[-1] == (b"authorization", b"Bearer two")


def test_token_file_that_was_never_good_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed, match="token"):
        TokenFile(str(tmp_path / "token")).header()
    (tmp_path / "bad").write_text("a\r\nx-evil: 1")
    with pytest.raises(ConnectFailed, match="cannot be read"):
        TokenFile(str(tmp_path / "bad")).header()


@pytest.mark.parametrize("text", ["a\nb", "", "  ", "naïve", "a\x00"])
def test_header_values_cannot_start_another_header(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        header_value(text)


def test_white_space_around_a_header_value_is_taken_off() -> None:
    assert header_value(" key\n") == b"key"
