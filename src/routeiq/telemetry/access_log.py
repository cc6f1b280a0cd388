"""The access log: one JSON line per request, written in batches by a thread.

A line costs the event loop one append. A stuck reader of stdout fills the queue, then the oldest lines are
dropped and counted: availability fails open, a log must never stop the gateway.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

FLUSH_S = 0.05
LIMIT = 20_000
Line = tuple[str, dict[str, Any]]


class AccessLog:
    """Collects records and writes them to a file descriptor, off the event loop."""

    def __init__(self, loop: AbstractEventLoop, fd: int = 1, *, limit: int = LIMIT) -> None:
        self._loop = loop
        self._fd = fd
        self._lines: deque[Line] = deque(maxlen=limit)
        self._timer: TimerHandle | None = None
        self._writing = False
        self.dropped = 0

    def write(self, message: str, record: dict[str, Any]) -> None:
        """Queue a record; it is on stdout within about `FLUSH_S` seconds.

        Its `time`, in seconds since the epoch, becomes the line's timestamp.
        """
        if len(self._lines) == self._lines.maxlen:
            self.dropped += 1
        self._lines.append((message, record))
        if self._timer is None and not self._writing:
            self._timer = self._loop.call_later(FLUSH_S, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = True
        batch = list(self._lines)
        self._lines.clear()
        written = self._loop.run_in_executor(None, self._flush, batch)
        written.add_done_callback(partial(self._done, len(batch)))

    def _done(self, lines: int, future: Any) -> None:
        self._writing = False
        if future.exception() is not None:  # closed stdout, full disk: lines are lost, nothing else
            self.dropped += lines
        if self._lines:
            self._timer = self._loop.call_later(FLUSH_S, self._start)

    def _flush(self, batch: list[Line]) -> None:
        worker = os.getpid()
        view = memoryview(b"".join([rendered(worker, *line) for line in batch]))
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Write what is queued, now. For the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = list(self._lines)
        self._lines.clear()
        if self._writing:  # the reader is stuck: waiting for it would keep the process from ending
            self.dropped += len(batch)
            return
        try:
            self._flush(batch)
        except OSError:
            self.dropped += len(batch)


def rendered(worker: int, message: str, record: dict[str, Any]) -> bytes:
    """One line: the fields that every line has, then the record's own."""
    at = datetime.fromtimestamp(record["time"], UTC).isoformat()
    head = b'{"timestamp":"%b","level":"INFO","service":"routeiq","worker_id":%d,"message":"%b",'
    own = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    return head % (at.encode(), worker, message.encode()) + own[1:]
