"""The decision log on disk: JSON lines with features and propensities, for replay and the next training.

Written by a daemon thread, so that a slow or full disk costs lines (counted), never a request. Prompts are not
part of it unless the operator asks; their features and a hash are.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from errno import ENOSPC
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from routeiq.telemetry.decisions import decision_details
from routeiq.telemetry.output import Output
from routeiq.types import Decision, RoutingRequest

QUEUE = 20_000
"""Records that wait for the disk; more are dropped and counted."""
FEEDBACK = "feedback.jsonl"

Encode = Callable[[RoutingRequest], tuple[str, bytes]]
"""From a request to the fingerprint of its features and their values as little-endian float16."""


class RotatingFile:
    """Appends to `<folder>/<stem>-<pid>-<number>.jsonl`; starts a new file at `max_bytes`, keeps the last `keep`.

    For one thread of one process: after a fork every process has files of its own.
    """

    def __init__(self, folder: Path, stem: str, *, max_bytes: int, keep: int) -> None:
        self._folder = folder
        self._stem = stem
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd: int | None = None
        self._size = 0
        self._number = 0

    def write(self, view: memoryview) -> int:
        """Append all of `view` to one file; how many bytes that were.

        Raises:
            OSError: the disk is full or the folder cannot be made. Nothing of `view` stays in the file, so that
                the next line is whole; the next call tries again.
        """
        fd = self._file()
        written = 0
        try:
            while written < len(view):
                written += os.write(fd, view[written:])
        except OSError:
            if written:
                os.ftruncate(fd, self._size)
            raise
        self._size += written
        return written

    def _file(self) -> int:
        """The file to append to, a new one where the last is full."""
        if self._fd is not None and self._size < self._max_bytes:
            return self._fd
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self._number + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._size = fd, os.fstat(fd).st_size
        self._number += 1
        if self._number > self._keep:
            self._path(self._number - self._keep).unlink(missing_ok=True)
        return fd

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._stem}-{os.getpid()}-{number:06d}.jsonl"


class DecisionFile:
    """Writes one worker's decisions. `encode` gives features, `None` leaves them out; `text` adds the prompt."""

    def __init__(
        self,
        folder: Path,
        *,
        started: float,
        max_bytes: int,
        keep: int,
        text: bool,
        encode: Encode | None,
    ) -> None:
        self.folder = folder
        self._text = text
        self._encode = encode
        file = RotatingFile(folder, f"decisions-{started:.0f}", max_bytes=max_bytes, keep=keep)
        self._output = Output(limit=QUEUE, write=file.write)

    @property
    def dropped(self) -> int:
        """Records that the disk did not take."""
        return self._output.dropped

    def add(self, record: dict[str, Any], request: RoutingRequest, decision: Decision) -> None:
        """Queue one decision; features are computed in the writer's thread."""
        self._output.put(partial(self._line, record, request, decision))

    def flush(self, timeout_s: float) -> None:
        """Wait until all is written, at most `timeout_s` seconds."""
        self._output.flush(timeout_s)

    def _line(self, record: dict[str, Any], request: RoutingRequest, decision: Decision) -> bytes:
        event = {
            "kind": "decision",
            **record,
            **decision_details(decision),
            "chosen": decision.chosen.group,
            "route_text_hash": hashlib.sha256(request.text.encode()).hexdigest(),
        }
        if self._text:
            event["route_text"] = request.text
        if self._encode is not None:
            fingerprint, values = self._encode(request)
            event["fingerprint"] = fingerprint
            event["features"] = base64.b64encode(values).decode()
        return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def append_feedback(folder: Path, event: dict[str, Any]) -> None:
    """Append one line of feedback, whole: every worker reads the file, and `O_APPEND` keeps lines apart.

    Raises:
        OSError: it could not be stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    line = orjson.dumps({"kind": "feedback", **event}, option=orjson.OPT_APPEND_NEWLINE)
    fd = os.open(folder / FEEDBACK, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # a full disk cut the last line
            line = b"\n" + line
        if os.write(fd, line) < len(line):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
    finally:
        os.close(fd)


class FeedbackTail:
    """Reads what was appended to the feedback file since the last look, by whichever worker.

    What was there before the first look is not read: it is about decisions of processes that are gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FEEDBACK
        self._inode: int | None = None
        self._offset = 0
        with suppress(OSError):  # no such file yet, or no such folder: `read` will tell
            found = self._path.stat()
            self._inode, self._offset = found.st_ino, found.st_size

    def read(self) -> list[dict[str, Any]]:
        """The new events; a line that is still being written is left for the next time.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset = found.st_ino, 0  # somebody made it anew
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        events = []
        for line in whole.splitlines():
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:  # a line that a full disk cut
                continue
            if isinstance(event, dict):
                events.append(event)
        return events
