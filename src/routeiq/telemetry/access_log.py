"""The access log: one JSON line per request, rendered and written in batches, off the event loop.

A line costs the event loop one append. While stdout's reader is stuck the lines wait here, and the oldest are
dropped and counted.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from routeiq.telemetry.output import Output

FLUSH_S = 0.05
LIMIT = 20_000
Line = tuple[str, dict[str, Any]]


class AccessLog:
    """Collects records and hands them to the output."""

    def __init__(self, loop: AbstractEventLoop, output: Output, *, limit: int = LIMIT) -> None:
        self._loop = loop
        self._output = output
        self._lines: deque[Line] = deque(maxlen=limit)
        self._timer: TimerHandle | None = None
        self.dropped = 0

    def write(self, message: str, record: dict[str, Any]) -> None:
        """Queue a record; it is on stdout within about `FLUSH_S` seconds.

        Its `time`, in seconds since the epoch, becomes the line's timestamp.
        """
        if len(self._lines) == self._lines.maxlen:
            self.dropped += 1
        self._lines.append((message, record))
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._output.busy:
            self._timer = self._loop.call_later(FLUSH_S, self._hand_over)
            return
        self._timer = None
        self._put()

    def _put(self) -> None:
        batch = list(self._lines)
        self._lines.clear()
        self._output.put(partial(rendered_all, batch), len(batch))

    def close(self) -> None:
        """Hand over what is queued, now. For the end of the process; the output is flushed after it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._put()


def rendered_all(batch: list[Line]) -> bytes:
    """The lines of a batch."""
    worker = os.getpid()
    return b"".join([rendered(worker, *line) for line in batch])


def rendered(worker: int, message: str, record: dict[str, Any]) -> bytes:
    """One line: the fields that every line has, then the record's own."""
    at = datetime.fromtimestamp(record["time"], UTC).isoformat()
    head = b'{"timestamp":"%b","level":"INFO","service":"routeiq","worker_id":%d,"message":"%b",'
    own = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    return head % (at.encode(), worker, message.encode()) + own[1:]
