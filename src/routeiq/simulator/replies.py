"""An answer in the words of each API: one JSON object, or the events of a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from routeiq.types import JsonObject

from .answers import Answer
from .errors import ApiError

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Reply:
    """What goes over the wire. A stream's `pieces` are its events; `paced` of them, after `lead`, are content.

    The pauses, in seconds: `wait_s` before the head, `first_s` before the first event, `gap_s` between
    two pieces of content (`None`: all at once).
    """

    status: int
    pieces: list[bytes]
    content_type: str = "application/json"
    headers: str = ""
    stream: bool = False
    lead: int = 0
    paced: int = 0
    wait_s: float = 0.0
    first_s: float = 0.0
    gap_s: float | None = None


@dataclass(slots=True)
class Envelope:
    """What the answers of one request have in common."""

    id: str
    created: int
    model: str
    usage: bool
    include_usage: bool


def json_reply(status: int, value: Any, headers: str = "") -> Reply:
    """One JSON body."""
    return Reply(status, [orjson.dumps(value)], headers=headers)


def error_reply(error: ApiError, headers: str = "") -> Reply:
    """An error in OpenAI's shape."""
    return json_reply(error.status, error.body, headers)


def token_usage(answer: Answer) -> JsonObject:
    """`usage` of chat and completions."""
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def chat(answer: Answer, envelope: Envelope) -> JsonObject:
    """A `chat.completion`."""
    message: JsonObject = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool is not None:
        function = {"name": answer.tool, "arguments": answer.text}
        call = {"id": f"call_{envelope.id}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    return _object(answer, envelope, "chat.completion", {"message": message})


def completion(answer: Answer, envelope: Envelope) -> JsonObject:
    """A `text_completion`."""
    return _object(answer, envelope, "text_completion", {"text": answer.text})


def _object(answer: Answer, envelope: Envelope, kind: str, content: JsonObject) -> JsonObject:
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": answer.finish_reason}
    found = {
        "id": f"{'chatcmpl' if kind[0] == 'c' else 'cmpl'}-{envelope.id}",
        "object": kind,
        "created": envelope.created,
        "model": envelope.model,
        "choices": [choice],
        "system_fingerprint": "fp_simulator",
    }
    return found | {"usage": token_usage(answer)} if envelope.usage else found


def chat_stream(answer: Answer, envelope: Envelope) -> tuple[list[bytes], int]:
    """The events of a chat stream, and how many come before the content."""
    if answer.tool is None:
        first: JsonObject = {"role": "assistant", "content": "", "refusal": None}
        return _events(answer, envelope, first, lambda text: {"delta": {"content": text}})
    function = {"name": answer.tool, "arguments": ""}
    call = {"index": 0, "id": f"call_{envelope.id}", "type": "function", "function": function}
    first = {"role": "assistant", "content": None, "tool_calls": [call]}

    def fragment(text: str) -> JsonObject:
        return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}

    return _events(answer, envelope, first, fragment)


def completion_stream(answer: Answer, envelope: Envelope) -> tuple[list[bytes], int]:
    """The events of a completions stream, and how many come before the content."""
    return _events(answer, envelope, None, lambda text: {"text": text})


def _events(
    answer: Answer,
    envelope: Envelope,
    first: JsonObject | None,
    content: Callable[[str], JsonObject],
) -> tuple[list[bytes], int]:
    base: JsonObject = {
        "id": f"{'cmpl' if first is None else 'chatcmpl'}-{envelope.id}",
        "object": "text_completion" if first is None else "chat.completion.chunk",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": "fp_simulator",
    }
    if envelope.include_usage:
        base["usage"] = None
    base_json, choices = (
        orjson.dumps(base)[:-1],
        b',"choices":[{"index":0,"logprobs":null,"finish_reason":',
    )

    def event(delta: JsonObject, reason: bytes = b"null") -> bytes:
        tail = orjson.dumps(delta)[1:]
        return b"data: %b%b%b,%b]}\n\n" % (base_json, choices, reason, tail)

    lead = [] if first is None else [event({"delta": first})]
    last: JsonObject = {"text": ""} if first is None else {"delta": {}}
    events = [event(content(piece)) for piece in answer.pieces]
    events = [*lead, *events, event(last, orjson.dumps(answer.finish_reason))]
    if envelope.include_usage and envelope.usage:
        totals = base | {"choices": [], "usage": token_usage(answer)}
        events.append(b"data: %b\n\n" % orjson.dumps(totals))
    return [*events, DONE], len(lead)


def response(answer: Answer, envelope: Envelope) -> JsonObject:
    """A finished object of the responses API."""
    cut_short = answer.finish_reason in ("length", "content_filter")
    why = "max_output_tokens" if answer.finish_reason == "length" else answer.finish_reason
    found = _response(envelope, "incomplete" if cut_short else "completed")
    found["output"] = [_item(answer, envelope, "completed", answer.text)]
    found["incomplete_details"] = {"reason": why} if cut_short else None
    if envelope.usage:
        found["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return found


def _response(envelope: Envelope, status: str) -> JsonObject:
    return {
        "id": f"resp_{envelope.id}",
        "object": "response",
        "created_at": envelope.created,
        "status": status,
        "model": envelope.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _item(answer: Answer, envelope: Envelope, status: str, text: str) -> JsonObject:
    if answer.tool is not None:
        call = {"name": answer.tool, "call_id": f"call_{envelope.id}", "arguments": text}
        return {"id": f"fc_{envelope.id}", "type": "function_call", "status": status, **call}
    content = [_part(text)] if text or status == "completed" else []
    message = {"role": "assistant", "status": status, "content": content}
    return {"id": f"msg_{envelope.id}", "type": "message", **message}


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": []}


def response_stream(answer: Answer, envelope: Envelope) -> tuple[list[bytes], int]:
    """The events of a responses stream, and how many come before the content."""
    started, item = _response(envelope, "in_progress"), _item(answer, envelope, "in_progress", "")
    finished = response(answer, envelope)
    where: JsonObject = {"item_id": item["id"], "output_index": 0}
    text: tuple[str, JsonObject] = "response.output_text", {"content_index": 0, "logprobs": []}
    name, extra = text if answer.tool is None else ("response.function_call_arguments", {})
    part = {**where, "content_index": 0}
    lead: list[tuple[str, JsonObject]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
    ]
    if answer.tool is None:
        lead.append(("response.content_part.added", {**part, "part": _part("")}))
        done = {"text": answer.text}
    else:
        done = {"arguments": answer.text, "name": answer.tool}
    content = [(f"{name}.delta", {**where, **extra, "delta": piece}) for piece in answer.pieces]
    tail = [(f"{name}.done", {**where, **extra, **done})]
    if answer.tool is None:
        tail.append(("response.content_part.done", {**part, "part": _part(answer.text)}))
    tail.append(("response.output_item.done", {"output_index": 0, "item": finished["output"][0]}))
    tail.append((f"response.{finished['status']}", {"response": finished}))
    events = [
        b"event: %b\ndata: %b\n\n"
        % (kind.encode(), orjson.dumps({"type": kind, "sequence_number": number, **fields}))
        for number, (kind, fields) in enumerate([*lead, *content, *tail])
    ]
    return events, len(lead)
