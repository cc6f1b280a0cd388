from __future__ import annotations

import orjson
import pytest

from routeiq.exceptions import InvalidRequest, ModelNotFound, OverCapacity, RequestTooLarge
from routeiq.gateway.asgi import (
    Message,
    error_body,
    error_headers,
    header,
    header_text,
    respond_error,
    respond_json,
)

HEADERS = [(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")]


class Sent(list[Message]):
    """An ASGI `send` that keeps what it was given."""

    async def __call__(self, message: Message) -> None:
        self.append(message)


def test_header_is_the_first_of_its_name() -> None:
    assert header(HEADERS, b"a") == b"1"
    assert header(HEADERS, b"c") is None
    assert header_text(HEADERS, b"b") == "é"
    assert header_text(HEADERS, b"c") is None


def test_error_body_is_openais_shape() -> None:
    body = orjson.loads(error_body(ModelNotFound("No such model.", param="model")))
    assert body == {
        "error": {
            "message": "No such model.",
            "type": "invalid_request_error",
            "code": "model_not_found",
            "param": "model",
        }
    }


@pytest.mark.parametrize(("wait", "shown"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.1, b"2")])
def test_retry_after_is_rounded_up_to_whole_seconds(wait: float, shown: bytes) -> None:
    headers = dict(error_headers(OverCapacity("Full.", retry_after_s=wait)))
    assert headers[b"retry-after"] == shown


def test_only_errors_that_pass_say_when_to_retry() -> None:
    assert b"retry-after" not in dict(error_headers(InvalidRequest("No.")))


@pytest.mark.parametrize(
    ("error", "closes"), [(RequestTooLarge("Big."), True), (InvalidRequest("No."), False)]
)
def test_the_connection_ends_where_a_body_was_left_unread(
    error: InvalidRequest | RequestTooLarge, closes: bool
) -> None:
    assert ((b"connection", b"close") in error_headers(error)) is closes


@pytest.mark.anyio
async def test_answers_have_type_and_length() -> None:
    sent = Sent()
    await respond_json(sent, {"a": 1}, status=201, headers=[(b"x", b"y")])
    start, body = sent
    assert (start["status"], body["body"]) == (201, b'{"a":1}')
    assert start["headers"] == [
        (b"content-type", b"application/json"),
        (b"x", b"y"),
        (b"content-length", b"7"),
    ]


@pytest.mark.anyio
async def test_errors_keep_further_headers() -> None:
    sent = Sent()
    await respond_error(sent, InvalidRequest("No."), [(b"allow", b"GET")])
    assert sent[0]["status"] == 400
    assert (b"allow", b"GET") in sent[0]["headers"]
