"""Server-sent events in passing: usage, first content, end and errors, without holding a stream up.

Only bytes are searched. That is sound because inside a JSON string a quote is escaped and a line feed
cannot stand: `"usage"` with both quotes is a key (or a whole value), a line is never part of a text.
"""

from __future__ import annotations

import re
from collections import deque

import orjson

from routeiq.types import Operation, Usage

from .usage import find_usage

MAX_EVENT_BYTES = 64 * 1024
"""Events longer than this pass unfiltered, and only their first and last part is looked at."""
RECENT_PIECES = 8
"""How many pieces of the stream are remembered: usage, end and errors come last."""

_BOUNDARY = re.compile(rb"\n\r?\n")
_CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|text|refusal|arguments)"\s*:\s*"[^"]'
    rb'|"tool_calls"\s*:\s*\[\s*\{|"(?:function_call|audio)"\s*:\s*\{|\.delta"'
)
_PLAIN_CONTENT = b'"content":"'
_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]")
_CHAT_END = re.compile(rb'"finish_reason"\s*:\s*"|(?:^|\n)data: ?\[DONE\]')
_RESPONSE_END = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed)"')
_MAYBE_ERROR = re.compile(rb'"error"\s*:\s*[^n\s]|"type"\s*:\s*"error"')
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')
_USAGE_NULL = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,\s*')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


class UsageTap:
    """Watches one stream. Feed it what arrives, forward what it returns, `finish` it at the end.

    With `strip_usage` (the gateway asked for usage, the client did not) the event that only carries
    usage and every `"usage":null` are taken out, and an incomplete event waits for its end; otherwise
    all bytes are returned at once, unchanged. `first_content`: something of the answer has arrived.
    What stands at the end of a stream (usage, its end, an error) is only looked for when asked for.
    """

    __slots__ = (
        "_error",
        "_finished",
        "_operation",
        "_overlong",
        "_recent",
        "_strip",
        "_tail",
        "_unread",
        "_usage",
        "first_content",
    )

    def __init__(self, operation: Operation, strip_usage: bool) -> None:
        self.first_content = False
        self._operation = operation
        self._strip = strip_usage
        self._tail = b""
        self._overlong = False
        self._recent: deque[bytes] = deque(maxlen=RECENT_PIECES)
        self._unread = False
        self._usage: Usage | None = None
        self._finished = False
        self._error = False

    @property
    def usage(self) -> Usage | None:
        """What the last usage object said."""
        self._read_recent()
        return self._usage

    @property
    def finished(self) -> bool:
        """The provider ended the stream itself: `[DONE]`, a finish reason, `response.completed`."""
        self._read_recent()
        return self._finished

    @property
    def error(self) -> bool:
        """The provider sent an error event."""
        self._read_recent()
        return self._error

    def feed(self, data: bytes) -> bytes:
        """What to forward now, given the next bytes."""
        if self._overlong:
            return self._feed_overlong(data)
        if not self._strip:
            if not self._tail and data.endswith(b"\n\n"):
                self._note(data)
            else:
                self._watch(data)
            return data
        block = self._tail + data if self._tail else data
        if block.endswith(b"\n\n") and len(block) <= MAX_EVENT_BYTES and b"\r" not in block:
            self._tail = b""
            return self._filter_events(block)
        start, out = 0, []
        for match in _BOUNDARY.finditer(block):
            out.append(self._filter(block[start : match.end()]))
            start = match.end()
        self._keep(block[start:])
        if self._overlong:  # nothing held is ever longer than the bound
            out.append(block[start:])
        return b"".join(out)

    def _filter_events(self, block: bytes) -> bytes:
        """Whole events in one piece, which is how they usually come: at most one of them has usage."""
        block = block.replace(b',"usage":null', b"")
        at = block.rfind(b'"usage"')
        if at < 0:
            self._note(block)
            return block
        start = block.rfind(b"\n\n", 0, at) + 2 if block.find(b"\n\n") < at else 0
        end = block.find(b"\n\n", at) + 2
        before, after = block[:start], block[end:]
        if b'"usage"' in before:
            return b"".join([self._filter(one + b"\n\n") for one in block.split(b"\n\n")[:-1]])
        if before:
            self._note(before)
        event = self._filter(block[start:end])
        if after:
            self._note(after)
        return before + event + after

    def finish(self) -> bytes:
        """What is left to forward when the stream has ended, whether well or not.

        A last event without its blank line counts; half an event would only break the client's parser.
        """
        tail, self._tail = self._tail, b""
        if self._overlong or not self._strip:
            self._note(tail)
            return b""
        whole = any(_payload(line) is not None for line in tail.splitlines())
        return self._filter(tail) if whole or _DONE.search(tail) else b""

    def _watch(self, data: bytes) -> None:
        """Note the complete events in tail and data, keep the rest; nothing is held back."""
        block = self._tail + data
        start = max(0, len(self._tail) - 2)
        lf, crlf = block.rfind(b"\n\n", start), block.rfind(b"\n\r\n", start)
        end = max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)
        if end:
            self._note(block[:end])
        self._keep(block[end:])

    def _keep(self, tail: bytes) -> None:
        """Remember an incomplete event, or of an overlong one its end."""
        self._tail = tail
        if len(tail) > MAX_EVENT_BYTES:
            self._overlong = True
            self._note(tail[:MAX_EVENT_BYTES])
            self._tail = tail[-MAX_EVENT_BYTES:]

    def _feed_overlong(self, data: bytes) -> bytes:
        block = self._tail + data
        match = _BOUNDARY.search(block, max(0, len(self._tail) - 2))
        if match is None:
            self._tail = block[-MAX_EVENT_BYTES:]
            return data
        self._note(block[: match.end()][-MAX_EVENT_BYTES:])
        passed = match.end() - len(self._tail)
        self._overlong, self._tail = False, b""
        rest = data[passed:]
        return data[:passed] + self.feed(rest) if rest else data

    def _filter(self, event: bytes) -> bytes:
        """One complete event as the client should see it; empty if it should not."""
        if len(event) > MAX_EVENT_BYTES:
            self._note(event[:MAX_EVENT_BYTES])
            self._note(event[-MAX_EVENT_BYTES:])
            return event
        if event.rfind(b'"usage"') >= 0:
            event = event.replace(b',"usage":null', b"")
            if event.rfind(b'"usage"') >= 0:
                event = _USAGE_NULL.sub(b"", event)
                if _USAGE_OBJECT.search(event) and _NO_CHOICES.search(event):
                    self._note(event)
                    return b""
        self._note(event)
        return event

    def _note(self, block: bytes) -> None:
        """Remember some complete events until they are asked about."""
        self._recent.append(block)
        self._unread = True
        if not self.first_content:
            at = block.rfind(_PLAIN_CONTENT)  # the usual form; the regex knows the others
            end = at + len(_PLAIN_CONTENT)
            plain = at >= 0 and block[end : end + 1] not in (b'"', b"")
            self.first_content = plain or _CONTENT.search(block) is not None

    def _read_recent(self) -> None:
        if not self._unread:
            return
        self._unread = False
        block = b"".join(self._recent)
        self._usage = find_usage(block, self._operation) or self._usage
        self._finished = self._finished or _ended(block, self._operation)
        if b'"error"' in block and _MAYBE_ERROR.search(block):
            self._error = self._error or any(map(_is_error, block.splitlines()))


def _ended(block: bytes, operation: Operation) -> bool:
    """Whether the provider ended the stream in `block`. Plain searches first: a regex over all is slow."""
    if operation == "responses":
        return b'"response.' in block and _RESPONSE_END.search(block) is not None
    if b'"finish_reason":"' in block:
        return True
    if b'"finish_reason"' not in block and b"[DONE]" not in block:
        return False
    return _CHAT_END.search(block) is not None


def error_event(body: bytes, operation: Operation = "chat") -> bytes:
    """What ends a stream that failed after it began; `body` is an error in OpenAI's JSON shape.

    The OpenAI SDKs raise `APIError` for data with an `error`; `[DONE]` ends clients that do not look.
    The blank line in front closes an event that was cut in the middle; otherwise it means nothing.
    """
    if operation != "responses":
        data = body.replace(b"\n", b"\ndata: ")
        return b"\n\ndata: " + data + b"\n\ndata: [DONE]\n\n"
    error = orjson.loads(body)["error"]
    flat = {name: error.get(name) for name in ("code", "message", "param")}
    event = {"type": "error", **flat, "error": error, "sequence_number": 0}
    return b"\n\nevent: error\ndata: " + orjson.dumps(event) + b"\n\n"


def _payload(line: bytes) -> object:
    """The JSON of a `data:` line, else `None`."""
    if not line.startswith(b"data:"):
        return None
    try:
        payload: object = orjson.loads(line[5:])
    except orjson.JSONDecodeError:
        return None
    return payload


def _is_error(line: bytes) -> bool:
    payload = _payload(line) if b'"error"' in line else None
    if not isinstance(payload, dict):
        return False
    return bool(payload.get("error")) or payload.get("type") in ("error", "response.failed")
