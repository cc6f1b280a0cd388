"""stdout, written by a thread: a reader that is stuck or gone, or a full disk, never stops the gateway.

Availability fails open: what cannot be written is dropped and counted. The thread is a daemon that nobody
joins, because a write to a stuck pipe never returns.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

_log = logging.getLogger(__name__)
LIMIT = 2_000
POLL_S = 0.005
Render = Callable[[], bytes]
Write = Callable[[memoryview], int]


class Output:
    """Queues what is to be written to a file descriptor, or by `write`.

    Safe across fork: the child starts its own thread.
    """

    def __init__(self, fd: int = 1, *, limit: int = LIMIT, write: Write | None = None) -> None:
        self._write = write or partial(os.write, fd)
        self._limit = limit
        self._owner = 0
        self._pending: deque[tuple[Render, int]] = deque()
        self._wake = threading.Event()
        self._writing = False
        self.dropped = 0

    @property
    def busy(self) -> bool:
        """Whether something waits or is being written."""
        return self._writing or bool(self._pending)

    def put(self, render: Render, lines: int = 1) -> None:
        """Queue `lines` lines; `render` makes their bytes, in the thread."""
        if self._owner != os.getpid():
            self._start()
        if len(self._pending) >= self._limit:
            self.dropped += lines
            return
        self._pending.append((render, lines))
        self._wake.set()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is written, at most `timeout_s` seconds. For the end of the process."""
        deadline = time.monotonic() + timeout_s
        while self._owner == os.getpid() and self.busy and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _start(self) -> None:
        """Begin in this process; what a parent had queued before the fork is the parent's to write."""
        self._owner = os.getpid()
        self._pending = deque()
        self._wake = threading.Event()
        self._writing = False
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._pending:
                self._writing = True
                render, lines = self._pending.popleft()
                try:
                    view = memoryview(render())
                    while view:
                        view = view[self._write(view) :]
                except OSError:  # closed, full: these lines are lost, nothing else
                    self.dropped += lines
                except (
                    Exception
                ):  # fire-wall: one record that cannot be rendered must not end the thread
                    self.dropped += lines
                    _log.exception("a record could not be rendered")
            self._writing = False
