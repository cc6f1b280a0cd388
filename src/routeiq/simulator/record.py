"""What the simulator received, kept as raw bytes so that recording costs next to nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson

_MOST_REQUESTS = 10_000
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class ReceivedRequest:
    """One request as it came over the wire.

    `time` is seconds since the epoch at which it was complete, `status` what was answered (`None`: nothing),
    `disconnected` whether the client went away before the end of the answer.
    """

    method: str = ""
    path: str = ""
    raw_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    time: float = 0.0
    status: int | None = None
    disconnected: bool = False
    keep_alive: bool = True
    http11: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """Headers with lower-case names; where a name repeats, the last."""
        return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in self.raw_headers}

    @property
    def json(self) -> Any:
        """The parsed body; `None` where it is empty or not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def as_dict(self) -> dict[str, Any]:
        """What `GET /_simulator/requests` shows."""
        names = ("method", "path", "headers", "json", "time", "status", "disconnected")
        return {name: getattr(self, name) for name in names}


class RequestLog:
    """The latest requests, in the order in which they came, bounded in number and bytes."""

    def __init__(self) -> None:
        self._entries: deque[ReceivedRequest] = deque()
        self._bytes = 0

    def add(self, request: ReceivedRequest) -> None:
        """Keep `request`; forget the oldest where there are too many."""
        self._entries.append(request)
        self._bytes += len(request.body)
        while len(self._entries) > _MOST_REQUESTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._entries.popleft().body)

    def all(self) -> tuple[ReceivedRequest, ...]:
        """Everything that is kept, oldest first."""
        return tuple(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0
