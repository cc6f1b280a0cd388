"""A directory in memory that can be down, slow, and says how often it was asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from routeiq.exceptions import Conflict, StoreUnavailable
from routeiq.stores import Change, Document, Entity, EntityKind
from routeiq.types import JsonObject


class FakeDirectory:
    """Implements `routeiq.stores.Directory`. While `gate` is set, look-ups wait after they have read."""

    def __init__(self) -> None:
        self.entities: dict[tuple[EntityKind, str], Entity] = {}
        self.changes: list[Change] = []
        self.asked: Counter[str] = Counter()
        self.down = False
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()

    async def find(self, secret_hash: str) -> Entity | None:
        self._check("find")
        found = next(
            (one for one in self.entities.values() if one.secret_hash == secret_hash), None
        )
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
            self._check("found")
        return found

    async def get(self, kind: EntityKind, id: str) -> Entity | None:
        self._check("get")
        return self.entities.get((kind, id))

    async def list(
        self, kind: EntityKind, *, team: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[Entity]:
        self._check("list")
        found = [
            entity
            for (its_kind, id), entity in sorted(self.entities.items())
            if its_kind == kind and id > after and (team is None or entity.team == team)
        ]
        return found[:limit]

    async def create(self, entity: Entity, change: Change) -> Entity:
        self._check("create")
        for other in self.entities.values():
            same_hash = entity.secret_hash is not None and other.secret_hash == entity.secret_hash
            if same_hash or (other.kind == entity.kind and entity.alias == other.alias):
                raise Conflict("The alias or the secret is taken.")
        return self._put(replace(entity, version=1), change)

    async def update(self, entity: Entity, change: Change) -> Entity:
        self._check("update")
        before = self.entities.get((entity.kind, entity.id))
        if before is None or before.version != entity.version:
            raise Conflict("It was changed meanwhile.")
        return self._put(replace(entity, version=entity.version + 1), change)

    async def delete(self, kind: EntityKind, id: str, change: Change) -> bool:
        self._check("delete")
        if any(id in (one.owner, one.team) for one in self.entities.values()):
            raise Conflict("Something still belongs to it.")
        gone = self.entities.pop((kind, id), None)
        if gone is not None:
            self.changes.append(change)
        return gone is not None

    async def generation(self) -> int:
        self._check("generation")
        return len(self.changes)

    def _put(self, entity: Entity, change: Change) -> Entity:
        self.entities[entity.kind, entity.id] = entity
        self.changes.append(change)
        return entity

    def _check(self, operation: str) -> None:
        self.asked[operation] += 1
        if self.down:
            raise StoreUnavailable("the directory is down")


class FakeDocuments:
    """The part of `routeiq.stores.Documents` that keeps a pepper."""

    def __init__(self) -> None:
        self.document = Document(name="key-pepper")
        self.down = False

    async def read(self, name: str) -> Document:
        if self.down:
            raise StoreUnavailable("the documents are down")
        document = self.document
        await asyncio.sleep(0)
        return document

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        if expected is not None and expected != self.document.version:
            raise Conflict("It was written meanwhile.")
        self.document = Document(name=name, version=self.document.version + 1, body=body)
        return self.document
