"""`Directory` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from routeiq.exceptions import Conflict
from routeiq.ports import Clock
from routeiq.stores import Change, Entity, EntityKind, Events

from .audit import MemoryAudit


class MemoryDirectory:
    """Keys, users and teams that end with the process."""

    def __init__(self, clock: Clock, audit: MemoryAudit, events: Events | None = None) -> None:
        self._clock = clock
        self._audit = audit
        self._events = events
        self._entities: dict[str, Entity] = {}
        self._generation = 0

    async def find(self, secret_hash: str) -> Entity | None:
        """The key with this hash, revoked ones included."""
        found = (one for one in self._entities.values() if one.secret_hash == secret_hash)
        return next(found, None)

    async def get(self, kind: EntityKind, id: str) -> Entity | None:
        """One entity by id."""
        found = self._entities.get(id)
        return found if found is not None and found.kind == kind else None

    async def list(
        self, kind: EntityKind, *, team: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[Entity]:
        """Entities in the order of their ids, from the one after `after`."""
        found = [
            one
            for id, one in sorted(self._entities.items())
            if one.kind == kind and id > after and team in (None, one.team)
        ]
        return found[:limit]

    async def create(self, entity: Entity, change: Change) -> Entity:
        """Store a new one, version 1.

        Raises:
            Conflict: the id, the alias (per kind) or the hash is taken.
        """
        if entity.id in self._entities:
            raise Conflict(f"the id {entity.id!r} is taken")
        self._require_free(entity)
        created_at = entity.created_at or self._clock.wall()
        return await self._keep(replace(entity, version=1, created_at=created_at), change)

    async def update(self, entity: Entity, change: Change) -> Entity:
        """Replace one; `entity.version` is the version that was read.

        Raises:
            Conflict: it was changed meanwhile, or it is gone, or its new alias or hash is taken.
        """
        known = await self.get(entity.kind, entity.id)
        if known is None or known.version != entity.version:
            raise Conflict(f"the {entity.kind} {entity.alias!r} was changed meanwhile, or is gone")
        self._require_free(entity)
        new = replace(entity, version=entity.version + 1, created_at=known.created_at)
        return await self._keep(new, change)

    async def delete(self, kind: EntityKind, id: str, change: Change) -> bool:
        """Remove one; whether it was there.

        Raises:
            Conflict: keys or users still belong to it.
        """
        if await self.get(kind, id) is None:
            return False
        for one in self._entities.values():
            if (kind == "user" and one.owner == id) or (kind == "team" and one.team == id):
                raise Conflict(f"the {one.kind} {one.alias!r} still belongs to this {kind}")
        del self._entities[id]
        await self._changed(kind, id, change)
        return True

    async def generation(self) -> int:
        """Grows with every change."""
        return self._generation

    def _require_free(self, entity: Entity) -> None:
        for one in self._entities.values():
            if one.id == entity.id:
                continue
            if one.kind == entity.kind and one.alias == entity.alias:
                raise Conflict(f"there is already a {one.kind} called {one.alias!r}")
            if entity.secret_hash is not None and one.secret_hash == entity.secret_hash:
                raise Conflict("there is already a key with this secret")

    async def _keep(self, entity: Entity, change: Change) -> Entity:
        self._entities[entity.id] = entity
        await self._changed(entity.kind, entity.id, change)
        return entity

    async def _changed(self, kind: EntityKind, id: str, change: Change) -> None:
        self._generation += 1
        self._audit.record(change)
        if self._events is not None:
            payload = {"kind": kind, "id": id, "generation": self._generation}
            await self._events.publish("keys", payload)
