"""What must survive a restart or be shared between workers and hosts, as Protocols; see `routeiq.state`.

Two families. The *ledgers* (`Directory`, `Documents`, `Audit`, `Decisions`, `Roster`) are durable: SQLite or
PostgreSQL. The *shared* ones (`Limits`, `Counters`, `Board`, `Conversations`, `Leases`, `Events`) are fast: Redis,
or the same database where there is none, or memory in tests.

Every method may raise `StoreUnavailable`: the store cannot be reached, or did not answer in time. Then nobody
knows whether a write took place; `Counters.apply` and `Limits.adjust` are idempotent: they are simply sent again.
Integers are exact: money is counted in nano-USD (1e-9 USD), so no float is ever added up in a store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from routeiq.types import JsonObject
from routeiq.values import value

NANO = 1_000_000_000
"""Nano-USD in one USD."""

EntityKind = Literal["key", "user", "team"]
BucketKind = Literal["window", "period", "slots"]


@value
class Change:
    """Who changed what: the audit row that is written in the same transaction as the change itself.

    `actor` is the alias of the admin's key, `action` like `keys.create`, `target` the id of what was changed.
    `details` never hold a secret.
    """

    actor: str
    action: str
    target: str
    details: JsonObject | None = None
    request_id: str | None = None


@value
class Entity:
    """A key, a user or a team. `body` is what the operator set (`routeiq.config.access.EntitySettings` as JSON).

    `secret_hash` is the keyed hash of a key's secret, `prefix` what is shown of it. `owner` is the id of the user
    that a key belongs to, `team` the id of a key's or user's team. Times are seconds since the epoch.
    """

    id: str
    kind: EntityKind
    alias: str
    version: int = 0
    body: JsonObject | None = None
    secret_hash: str | None = None
    prefix: str | None = None
    owner: str | None = None
    team: str | None = None
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None


class Directory(Protocol):
    """Keys, users and teams. Each change bumps the directory's generation and is announced on topic `keys`."""

    async def find(self, secret_hash: str) -> Entity | None:
        """The key with this hash, revoked ones included."""
        ...

    async def get(self, kind: EntityKind, id: str) -> Entity | None:
        """One entity by id."""
        ...

    async def list(
        self, kind: EntityKind, *, team: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[Entity]:
        """Entities in the order of their ids, from the one after `after`."""
        ...

    async def create(self, entity: Entity, change: Change) -> Entity:
        """Store a new one, version 1.

        Raises:
            Conflict: the id, the alias (per kind) or the hash is taken.
        """
        ...

    async def update(self, entity: Entity, change: Change) -> Entity:
        """Replace one; `entity.version` is the version that was read. The new one has the next version.

        Raises:
            Conflict: it was changed meanwhile, or it is gone.
        """
        ...

    async def delete(self, kind: EntityKind, id: str, change: Change) -> bool:
        """Remove one; whether it was there.

        Raises:
            Conflict: keys or users still belong to it.
        """
        ...

    async def generation(self) -> int:
        """Grows with every change, whoever made it."""
        ...


@value
class Document:
    """A versioned piece of control state, such as the active strategy. Version 0 was never written."""

    name: str
    version: int = 0
    body: JsonObject | None = None
    updated_at: float = 0.0
    updated_by: str = ""


class Documents(Protocol):
    """Control state. Each write bumps the generation and is announced on topic `control`."""

    async def read(self, name: str) -> Document:
        """One document; version 0 where it was never written."""
        ...

    async def all(self) -> tuple[int, Mapping[str, Document]]:
        """The generation and every document, read together."""
        ...

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        """Replace one; `None` deletes its body (the version still grows).

        Raises:
            Conflict: `expected` is not the version that is there.
        """
        ...

    async def generation(self) -> int:
        """Grows with every write, whoever made it."""
        ...


class Audit(Protocol):
    """Who changed what and when; rows are only ever added."""

    async def add(self, change: Change) -> None:
        """Add a row for a change that no store of ours made (a reload, a promoted artifact)."""
        ...

    async def latest(self, *, limit: int = 100, before: int | None = None) -> Sequence[JsonObject]:
        """Rows `{id, time, actor, action, target, details, request_id}`, newest first, ids below `before`."""
        ...

    async def prune(self, before_s: float) -> int:
        """Delete what is older than this time; how many."""
        ...


@value
class Worker:
    """One worker process, as it reported itself last. `generation` is the control state that it has applied."""

    id: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    generation: int
    directory: int = 0
    config: str = ""
    version: str = ""


class Roster(Protocol):
    """The workers of all hosts, so that `status` can say when all have a change."""

    async def beat(self, worker: Worker) -> None:
        """Say that this worker lives and what it has applied. Times are the store's to set."""
        ...

    async def all(self, *, within_s: float = 30.0) -> Sequence[Worker]:
        """Those that were seen lately."""
        ...

    async def leave(self, id: str) -> None:
        """A worker ended in order."""
        ...


class Decisions(Protocol):
    """Decision records and the feedback on them."""

    async def add(self, records: Sequence[JsonObject]) -> None:
        """Store a batch, all or nothing; a record whose `decision_id` is there already is skipped."""
        ...

    async def get(self, decision_id: str) -> JsonObject | None:
        """One record, whole, with its feedback under `feedback`."""
        ...

    async def search(self, query: Mapping[str, Any], *, limit: int) -> Sequence[JsonObject]:
        """Records that match, newest first.

        `query` may have `key`, `team`, `model`, `strategy`, `status`, `outcome`, `session_id`, `experiment`,
        `since` and `until` (seconds since the epoch), `before` (a decision id, for the next page).
        """
        ...

    async def feedback(self, event: JsonObject) -> bool:
        """Keep feedback `{decision_id, score, label?, comment?, key, time}`; whether the record was there.

        One row per decision and key: the last one counts.
        """
        ...

    async def feedback_since(self, position: int, *, limit: int = 1000) -> Sequence[JsonObject]:
        """Feedback after a position, oldest first; each has its `position`."""
        ...

    async def prune(self, before_s: float) -> int:
        """Delete records and feedback older than this time; how many records."""
        ...


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
        """Put a breaker up."""
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
