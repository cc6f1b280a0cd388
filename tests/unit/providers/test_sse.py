from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routeiq.providers import sse
from routeiq.providers.sse import UsageTap, error_event
from routeiq.types import Operation, Usage

USAGE = {"prompt_tokens": 5, "completion_tokens": 7}
READ = Usage(input_tokens=5, output_tokens=7)


def event(payload: Any, *, end: bytes = b"\n\n", spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: " + json.dumps(payload, separators=separators).encode() + end


def chunk(content: str | None = None, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}


def openai_stream(*, end: bytes = b"\n\n", spaced: bool = False) -> list[bytes]:
    first = chunk("", usage=None)
    parts = [first, chunk('say "usage":null, [DONE]', usage=None), chunk(None, "stop", usage=None)]
    events = [event(part, end=end, spaced=spaced) for part in parts]
    events.append(event({"id": "x", "choices": [], "usage": USAGE}, end=end, spaced=spaced))
    return [b": ping" + end, *events, b"data: [DONE]" + end]


def run(
    pieces: list[bytes], *, strip: bool, operation: Operation = "chat"
) -> tuple[bytes, UsageTap]:
    tap = UsageTap(operation, strip)
    out = b"".join([tap.feed(piece) for piece in pieces])
    return out + tap.finish(), tap


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("spaced", [True, False])
def test_without_strip_everything_passes_at_once(end: bytes, spaced: bool) -> None:
    tap = UsageTap("chat", False)
    for piece in openai_stream(end=end, spaced=spaced):
        half = len(piece) // 2
        assert tap.feed(piece[:half]) == piece[:half]
        assert tap.feed(piece[half:]) == piece[half:]
    assert tap.finish() == b""
    assert (tap.usage, tap.first_content, tap.finished, tap.error) == (READ, True, True, False)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("spaced", [True, False])
def test_strip_takes_out_what_our_request_caused(end: bytes, spaced: bool) -> None:
    out, tap = run(openai_stream(end=end, spaced=spaced), strip=True)
    payloads = [line[6:] for line in out.splitlines() if line.startswith(b"data: {")]
    assert [json.loads(one) for one in payloads] == [
        chunk(""),
        chunk('say "usage":null, [DONE]'),
        chunk(None, "stop"),
    ]
    assert out.startswith(b": ping" + end)
    assert out.endswith(b"data: [DONE]" + end)
    assert (tap.usage, tap.first_content, tap.finished) == (READ, True, True)


def test_strip_forwards_complete_events_at_once_and_holds_only_the_rest() -> None:
    tap = UsageTap("chat", True)
    one, two = event(chunk("a")), event(chunk("b"))
    assert tap.feed(one + two[:9]) == one
    assert tap.feed(two[9:]) == two


def test_usage_in_the_last_content_chunk_stays() -> None:
    last = event(chunk("!", "stop", usage=USAGE))
    out, tap = run([last, b"data: [DONE]\n\n"], strip=True)
    assert out == last + b"data: [DONE]\n\n"
    assert tap.usage == READ


def test_usage_null_in_front_is_taken_out() -> None:
    out, _ = run([b'data: {"usage":null,"choices":[{"delta":{"content":"a"}}]}\n\n'], strip=True)
    assert out == b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


def test_empty_choices_without_usage_pass() -> None:
    azure = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "usage": None}
    out, tap = run([event(azure)], strip=True)
    assert json.loads(out[6:]) == {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    assert tap.usage is None


def test_cumulative_usage_is_that_of_the_last_chunk() -> None:
    pieces = [
        event(chunk("a", usage={"prompt_tokens": 5, "completion_tokens": n})) for n in range(20)
    ]
    assert run(pieces, strip=False)[1].usage == Usage(input_tokens=5, output_tokens=19)


def test_last_event_without_blank_line_counts() -> None:
    stream = b"".join(openai_stream()).removesuffix(b"\n\n")
    assert run([stream], strip=True)[1].finished
    without_done = stream.removesuffix(b"data: [DONE]").removesuffix(b"\n\n")
    out, tap = run([without_done], strip=True)
    assert tap.usage == READ
    assert b"usage" not in out.replace(b'\\"usage\\"', b"")


def test_half_an_event_is_not_forwarded_when_events_are_filtered() -> None:
    whole = event(chunk("a"))
    out, tap = run([whole, whole[:20]], strip=True)
    assert out == whole
    assert not tap.finished


@pytest.mark.parametrize(
    ("payload", "content"),
    [
        (chunk(""), False),
        (chunk("x"), True),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, False),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, True),
        ({"choices": [{"text": "x"}]}, True),
        ({"type": "response.created", "response": {"output": []}}, False),
        ({"type": "response.output_text.delta", "delta": "x"}, True),
    ],
)
def test_first_content_is_noticed(payload: dict[str, Any], content: bool) -> None:
    for spaced in (True, False):
        assert run([event(payload, spaced=spaced)], strip=False)[1].first_content is content


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"error": {"message": "no"}}, True),
        ({"error": "no"}, True),
        ({"error": None, "choices": []}, False),
        ({"type": "error", "message": "no"}, True),
        ({"type": "response.failed", "response": {"error": {"code": "x"}}}, True),
        (
            {"response": {"error": None, "tools": [{"properties": {"error": {"type": "string"}}}]}},
            False,
        ),
        (chunk('"error": {"message"}'), False),
    ],
)
def test_error_events_are_noticed(payload: dict[str, Any], error: bool) -> None:
    assert run([event(payload)], strip=False)[1].error is error


def test_finish_is_not_believed_from_text() -> None:
    pieces = [event(chunk('[DONE] "finish_reason":"stop"')), event(chunk("\ndata: [DONE]"))]
    assert not run(pieces, strip=False)[1].finished


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_responses_end_by_their_own_event(ending: str) -> None:
    usage = {"input_tokens": 5, "output_tokens": 7}
    tools = [{"parameters": {"properties": {"usage": {"type": "object"}}}}]
    created = {"type": "response.created", "response": {"tools": tools, "usage": None}}
    done = {"type": f"response.{ending}", "response": {"tools": tools, "usage": usage}}
    _, tap = run([event(created)], strip=False, operation="responses")
    assert not tap.finished
    _, tap = run([event(created), event(done)], strip=False, operation="responses")
    assert tap.finished
    assert tap.usage == READ


STREAMS = [
    b"".join(openai_stream(end=end, spaced=spaced))
    for end in (b"\n\n", b"\r\n\r\n")
    for spaced in (False, True)
]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 4000), max_size=40), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_split_gives_the_same(stream: bytes, places: list[int], strip: bool) -> None:
    expected, whole = run([stream], strip=strip)
    out, tap = run(cut(stream, places), strip=strip)
    assert out == expected
    assert (tap.usage, tap.finished, tap.first_content, tap.error) == (
        whole.usage,
        whole.finished,
        whole.first_content,
        whole.error,
    )


@given(
    st.lists(st.integers(0, 2000), max_size=30),
    st.booleans(),
    st.integers(20, 160),
    st.binary(max_size=60).map(lambda raw: raw.replace(b"u", b"\n")),
)
@settings(deadline=None, max_examples=200)
def test_splits_do_not_matter_beyond_the_bound_either(
    places: list[int], strip: bool, bound: int, noise: bytes
) -> None:
    stream = noise + b"".join(openai_stream()) + noise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "MAX_EVENT_BYTES", bound)
        assert run(cut(stream, places), strip=strip)[0] == run([stream], strip=strip)[0]
        if not strip:
            assert run(cut(stream, places), strip=False)[0] == stream


@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("size", [1000, 300_000])
def test_overlong_events_pass_and_their_end_is_read(strip: bool, size: int) -> None:
    text = "y" * 300_000
    payload = {"type": "response.completed", "response": {"text": text, "usage": USAGE}}
    stream = event(payload) + event(chunk("after"))
    tap = UsageTap("responses", strip)
    out = b""
    for at in range(0, len(stream), size):
        piece = stream[at : at + size]
        out += tap.feed(piece)
        assert at + len(piece) - len(out) <= sse.MAX_EVENT_BYTES  # never holds more than the bound
    assert out + tap.finish() == stream
    assert tap.usage == READ
    assert tap.finished


def test_error_event_is_what_openai_clients_raise_on() -> None:
    body = (
        b'{"error":{"message":"gone","type":"server_error","code":"upstream_error","param":null}}'
    )
    assert error_event(body) == b"\n\ndata: " + body + b"\n\ndata: [DONE]\n\n"
    assert error_event(b'{\n"error":1}') == b'\n\ndata: {\ndata: "error":1}\n\ndata: [DONE]\n\n'
    flavoured = error_event(body, "responses").strip()
    head, data = flavoured.split(b"\n")
    assert head == b"event: error"
    parsed = json.loads(data[6:])
    assert (parsed["type"], parsed["code"], parsed["message"]) == (
        "error",
        "upstream_error",
        "gone",
    )
    assert parsed["error"]["type"] == "server_error"
