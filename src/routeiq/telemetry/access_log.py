"""The access log: one JSON line per request, written in batches by a thread.

A line costs the event loop one append. A stuck reader of stdout fills the queue, then the oldest lines are
dropped and counted: availability fails open, a log must never stop the gateway.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from typing import Any

import orjson

FLUSH_S = 0.05
LIMIT = 20_000


class AccessLog:
    """Collects records and writes them to a file descriptor, off the event loop."""

    def __init__(self, loop: AbstractEventLoop, fd: int = 1, *, limit: int = LIMIT) -> None:
        self._loop = loop
        self._fd = fd
        self._lines: deque[dict[str, Any]] = deque(maxlen=limit)
        self._timer: TimerHandle | None = None
        self._writing = False
        self.dropped = 0

    def write(self, record: dict[str, Any]) -> None:
        """Queue a record; it is on stdout within about `FLUSH_S` seconds."""
        if len(self._lines) == self._lines.maxlen:
            self.dropped += 1
        self._lines.append(record)
        if self._timer is None and not self._writing:
            self._timer = self._loop.call_later(FLUSH_S, self._start)

    def _start(self) -> None:
        self._timer = None
        self._writing = True
        batch = list(self._lines)
        self._lines.clear()
        self._loop.run_in_executor(None, self._flush, batch).add_done_callback(self._done)

    def _done(self, future: Any) -> None:
        self._writing = False
        if (
            future.exception() is not None
        ):  # closed stdout, full disk: the lines are lost, not the gateway
            self.dropped += 1
        if self._lines:
            self._timer = self._loop.call_later(FLUSH_S, self._start)

    def _flush(self, batch: list[dict[str, Any]]) -> None:
        data = b"".join(orjson.dumps(r, option=orjson.OPT_APPEND_NEWLINE) for r in batch)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Write what is queued, now. For the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = list(self._lines)
        self._lines.clear()
        try:
            self._flush(batch)
        except OSError:
            self.dropped += len(batch)
