"""The durable stores: who may call, what is in force, who changed it, what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from routeiq.types import JsonObject
from routeiq.values import value

EntityKind = Literal["key", "user", "team"]


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
