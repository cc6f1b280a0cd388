"""What the core needs from outside, as Protocols: adapters implement them, tests fake them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time, injected so that tests need no sleep and a jumping wall clock can be tested."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary point; never goes back. For durations and timeouts."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump. For records that people read."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)  # noqa: TID251 - this is the one place


Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Bounds on one call, in seconds; `None` is no bound.

    `first_byte_s` runs from the request being written to the response head, `idle_s` between two pieces
    of the body, `total_s` over everything.
    """

    connect_s: float | None = 5.0
    first_byte_s: float | None = 600.0
    idle_s: float | None = 120.0
    total_s: float | None = None


class UpstreamResponse(Protocol):
    """A response whose head has arrived. Whoever gets one must `read`, exhaust `chunks` or `close` it."""

    @property
    def status(self) -> int:
        """HTTP status code."""
        ...

    @property
    def headers(self) -> Sequence[Header]:
        """Header pairs, names in lower case."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all of the body has arrived and been taken."""
        ...

    async def read(self, limit: int | None = None) -> bytes:
        """The whole body; `ConnectionLost` if it is cut or longer than `limit` bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in whatever pieces the socket gave."""
        ...

    def close(self) -> None:
        """Give up on the response at once: an unfinished one costs the provider nothing more."""
        ...


class HttpClient(Protocol):
    """Pooled HTTP to one or many origins."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes,
        timeouts: Timeouts,
    ) -> UpstreamResponse:
        """Write a request, wait for the head of its response.

        Raises:
            ConnectFailed: no connection could be made; nothing was sent.
            UpstreamTimeout: `timeouts` ran out in the phase it names.
            ConnectionLost: cut before the head was complete.
            EgressDenied: the URL's address is not allowed.
        """
        ...

    async def close(self) -> None:
        """Close every idle connection; those in use close when their response ends."""
        ...
