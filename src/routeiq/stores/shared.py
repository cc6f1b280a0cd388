"""The fast stores that workers share: limits, counters, breakers, conversations, leases, events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

from routeiq.types import JsonObject
from routeiq.values import value

BucketKind = Literal["window", "period", "slots"]


@value
class Ask:
    """What a request wants of one bucket.

    `window`: at most `limit` in any `window_s` seconds (sliding: the last window counts with the share of it that
    still lies in the past `window_s`). `period`: at most `limit` until the bucket, whose name has the period in
    it, is forgotten after `keep_s`. `slots`: at most `limit` at once over all workers.

    `amount` must be had whole; up to `extra` more is taken if there is plenty (never more than an eighth of what
    is left), to be spent locally. `seed` is where a `period` bucket that the store does not know starts.
    """

    bucket: str
    kind: BucketKind
    limit: int
    amount: int
    extra: int = 0
    window_s: float = 60.0
    keep_s: float = 0.0
    seed: int = 0


@value
class Grant:
    """One bucket's answer.

    `taken` is amount plus extra (0 if the request was refused), `used` what is taken now in all (a sliding window
    rounds up), `reset_s` after how many seconds a window is empty again, `window` the number of the window that
    was debited (for `Limits.adjust`).
    """

    taken: int
    used: int
    reset_s: float = 0.0
    window: int = 0


@value
class Reservation:
    """The answer to all asks of one request: all were granted, or nothing was taken.

    `refused` is the index of the first ask that could not be met; then `retry_after_s` is when it may be.
    """

    grants: tuple[Grant, ...]
    refused: int | None = None
    retry_after_s: float = 0.0


@value
class Delta:
    """What turned out different: `amount` is added to what a bucket has taken (negative gives back).

    For a `window` bucket `window` says which one was debited; one that is over is left alone. A `slots` delta
    gives back (or, positive, re-reports) this worker's slots.
    """

    bucket: str
    kind: BucketKind
    amount: int
    window: int = 0
    window_s: float = 60.0
    keep_s: float = 0.0


class Limits(Protocol):
    """Rate limits and budgets. All buckets of one call belong to one `tenant`: one script sees them all."""

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        """Take from all buckets or from none, atomically, in one round trip."""
        ...

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        """Settle.

        `seq` grows by one with each batch of this worker for this tenant; a batch that came twice counts once.
        """
        ...

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        """This worker lives: its slots stay taken for another `ttl_s`. Slots of dead workers are freed so."""
        ...

    async def usage(self, tenant: str, buckets: Mapping[str, BucketKind]) -> Mapping[str, int]:
        """What is taken in each bucket now."""
        ...

    async def reset(self, tenant: str, buckets: Sequence[str]) -> None:
        """Forget buckets (an admin gave a key a fresh start)."""
        ...


class Counters(Protocol):
    """Exact integers, grouped by name, that many workers add to (R-16)."""

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        """Add a batch.

        `seq` grows by one with each batch of this worker for this name; a batch that came twice counts once.
        """
        ...

    async def read(self, name: str) -> Mapping[str, int]:
        """Every field."""
        ...

    async def delete(self, name: str) -> None:
        """Forget the group."""
        ...


@value
class Notice:
    """A breaker that some worker opened; it may be probed after `left_s` seconds."""

    id: str
    left_s: float
    worker: str
    reason: str = ""


class Board(Protocol):
    """Where workers tell each other which breakers are open. Changes are announced on topic `breakers`."""

    async def open(self, notice: Notice) -> None:
        """Put a breaker up. Until half of its time is over nobody gets its probe: news take a moment."""
        ...

    async def close(self, id: str, worker: str) -> None:
        """Take it down: a probe went well."""
        ...

    async def all(self) -> Sequence[Notice]:
        """Those that are open now."""
        ...

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        """Whether this worker may send the one probe of the fleet; another may after `ttl_s`."""
        ...


class Conversations(Protocol):
    """Which deployment a conversation stays with. Keys are opaque, at most 64 characters."""

    async def get(self, key: str) -> str | None:
        """The deployment's id."""
        ...

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        """Set or renew several."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget several."""
        ...

    async def prune(self) -> int:
        """Delete what has expired where the store does not by itself; how many."""
        ...


@value
class Lease:
    """Who may do a job that must run once. `token` grows with every new holder, to fence off a late old one."""

    name: str
    holder: str
    token: int
    left_s: float


class Leases(Protocol):
    """One holder at a time, by the store's clock; a dead one is followed within the lease time (decision 3)."""

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take or renew; `None` while somebody else has it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give it back, if it is still ours."""
        ...

    async def read(self, name: str) -> Lease | None:
        """Who has it now."""
        ...


OnEvent = Callable[[str, JsonObject], Awaitable[None]]


class Events(Protocol):
    """A doorbell between workers: it may be missed, so what matters is read from a store afterwards."""

    async def publish(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker, this one included. `payload` as JSON has at most 4,000 bytes."""
        ...

    async def listen(self, on_event: OnEvent, on_gap: Callable[[], Awaitable[None]]) -> None:
        """Hear events until cancelled.

        `on_gap` is awaited whenever listening (again) begins: events may have been missed before. Reconnects by
        itself; never raises `StoreUnavailable`.
        """
        ...
