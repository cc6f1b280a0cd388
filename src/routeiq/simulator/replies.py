"""An answer in the words of each API: one JSON object, or the events of a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from routeiq.types import JsonObject

from .answers import Answer
from .errors import ApiError


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


def json_reply(status: int, value: Any, headers: str = "") -> Reply:
    """One JSON body."""
    return Reply(status, [orjson.dumps(value)], headers=headers)


def error_reply(error: ApiError, headers: str = "") -> Reply:
    """An error in OpenAI's shape."""
    return json_reply(error.status, error.body, headers)


def _usage(answer: Answer) -> JsonObject:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def _call(answer: Answer, arguments: str) -> JsonObject:
    function = {"name": answer.tool, "arguments": arguments}
    return {"index": 0, "id": f"call_{answer.id}", "type": "function", "function": function}


def chat(answer: Answer) -> JsonObject:
    """A `chat.completion`."""
    message: JsonObject = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool is not None:
        message |= {"content": None, "tool_calls": [_call(answer, answer.text)]}
    return _object(answer, "chat.completion", {"message": message})


def completion(answer: Answer) -> JsonObject:
    """A `text_completion`."""
    return _object(answer, "text_completion", {"text": answer.text})


def _base(answer: Answer, kind: str) -> JsonObject:
    return {
        "id": f"{'cmpl' if kind == 'text_completion' else 'chatcmpl'}-{answer.id}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": "fp_simulator",
    }


def _object(answer: Answer, kind: str, content: JsonObject) -> JsonObject:
    found = _base(answer, kind)
    reason = answer.finish_reason
    found["choices"] = [{"index": 0, **content, "logprobs": None, "finish_reason": reason}]
    if answer.count_usage:
        found["usage"] = _usage(answer)
    return found


def chat_stream(answer: Answer, *, include_usage: bool) -> tuple[list[bytes], int]:
    """The events of a chat stream, and how many come before the content."""
    first: JsonObject = {"role": "assistant", "content": "", "refusal": None}
    if answer.tool is not None:
        first |= {"content": None, "tool_calls": [_call(answer, "")]}

    def content(text: str) -> JsonObject:
        if answer.tool is None:
            return {"delta": {"content": text}}
        return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}

    base = _base(answer, "chat.completion.chunk")
    shells: list[JsonObject] = [{"delta": first}, {"delta": {}}]
    return _events(answer, base, shells, content, include_usage=include_usage), 1


def completion_stream(answer: Answer, *, include_usage: bool) -> tuple[list[bytes], int]:
    """The events of a completions stream, and how many come before the content."""
    base = _base(answer, "text_completion")
    shells: list[JsonObject] = [{"text": ""}]
    return _events(
        answer, base, shells, lambda text: {"text": text}, include_usage=include_usage
    ), 0


def _events(
    answer: Answer,
    base: JsonObject,
    shells: list[JsonObject],
    content: Callable[[str], JsonObject],
    *,
    include_usage: bool,
) -> list[bytes]:
    """Events around the content: all of `shells` but the last before it, the last after it."""
    if include_usage:
        base["usage"] = None
    head = orjson.dumps(base)[:-1] + b',"choices":[{"index":0,"logprobs":null,"finish_reason":'

    def event(delta: JsonObject, reason: bytes = b"null") -> bytes:
        return b"data: %b%b,%b]}\n\n" % (head, reason, orjson.dumps(delta)[1:])

    events = [event(shell) for shell in shells[:-1]]
    events += [event(content(piece)) for piece in answer.pieces]
    events.append(event(shells[-1], orjson.dumps(answer.finish_reason)))
    if include_usage and answer.count_usage:
        totals = {**base, "choices": [], "usage": _usage(answer)}
        events.append(b"data: %b\n\n" % orjson.dumps(totals))
    return [*events, b"data: [DONE]\n\n"]


def response(answer: Answer) -> JsonObject:
    """A finished object of the responses API."""
    cut_short = answer.finish_reason in ("length", "content_filter")
    why = "max_output_tokens" if answer.finish_reason == "length" else answer.finish_reason
    found = _response(answer, "incomplete" if cut_short else "completed")
    found["output"] = [_item(answer, "completed", answer.text)]
    found["incomplete_details"] = {"reason": why} if cut_short else None
    if answer.count_usage:
        found["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return found


def _response(answer: Answer, status: str) -> JsonObject:
    empty: JsonObject = dict.fromkeys(("error", "incomplete_details", "usage"))
    lists: JsonObject = {"output": [], "tools": []}
    choice = {"parallel_tool_calls": True, "tool_choice": "auto"}
    named = {"id": f"resp_{answer.id}", "object": "response", "model": answer.model}
    return {**named, "created_at": answer.created, "status": status, **choice, **lists, **empty}


def _item(answer: Answer, status: str, text: str) -> JsonObject:
    if answer.tool is not None:
        call = {"name": answer.tool, "call_id": f"call_{answer.id}", "arguments": text}
        return {"id": f"fc_{answer.id}", "type": "function_call", "status": status, **call}
    message = {"role": "assistant", "content": [_part(text)] if status == "completed" else []}
    return {"id": f"msg_{answer.id}", "type": "message", "status": status, **message}


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": []}


def response_stream(answer: Answer, *, include_usage: bool) -> tuple[list[bytes], int]:
    """The events of a responses stream (its usage always comes last), and how many come before the content."""
    del include_usage
    started, item = _response(answer, "in_progress"), _item(answer, "in_progress", "")
    finished = response(answer)
    whole = finished["output"][0]
    where: JsonObject = {"item_id": item["id"], "output_index": 0}
    lead: list[tuple[str, JsonObject]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
    ]
    tail: list[tuple[str, JsonObject]] = [
        ("response.output_item.done", {"output_index": 0, "item": whole}),
        (f"response.{finished['status']}", {"response": finished}),
    ]
    if answer.tool is None:
        where["content_index"] = 0
        name, done = "response.output_text", {"text": answer.text, "logprobs": []}
        lead.append(("response.content_part.added", {**where, "part": _part("")}))
        tail.insert(0, ("response.content_part.done", {**where, "part": _part(answer.text)}))
    else:
        name, done = (
            "response.function_call_arguments",
            {"arguments": answer.text, "name": answer.tool},
        )
    tail.insert(0, (f"{name}.done", {**where, **done}))
    content = [
        (f"{name}.delta", {**where, "delta": piece, "logprobs": []}) for piece in answer.pieces
    ]
    events = [
        b"event: %b\ndata: %b\n\n"
        % (kind.encode(), orjson.dumps({"type": kind, "sequence_number": number, **fields}))
        for number, (kind, fields) in enumerate([*lead, *content, *tail])
    ]
    return events, len(lead)
