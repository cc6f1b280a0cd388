"""`Documents` in memory."""

from __future__ import annotations

from collections.abc import Mapping

from routeiq.exceptions import Conflict
from routeiq.ports import Clock
from routeiq.stores import Change, Document, Events
from routeiq.types import JsonObject

from .audit import MemoryAudit


class MemoryDocuments:
    """Control state that ends with the process."""

    def __init__(self, clock: Clock, audit: MemoryAudit, events: Events | None = None) -> None:
        self._clock = clock
        self._audit = audit
        self._events = events
        self._documents: dict[str, Document] = {}
        self._generation = 0

    async def read(self, name: str) -> Document:
        """One document; version 0 where it was never written."""
        return self._documents.get(name) or Document(name=name)

    async def all(self) -> tuple[int, Mapping[str, Document]]:
        """The generation and every document."""
        return self._generation, dict(self._documents)

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        """Replace one.

        Raises:
            Conflict: `expected` is not the version that is there.
        """
        version = (await self.read(name)).version
        if expected not in (None, version):
            raise Conflict(f"{name} has version {version}, not {expected}")
        document = Document(
            name=name,
            version=version + 1,
            body=body,
            updated_at=self._clock.wall(),
            updated_by=change.actor,
        )
        self._documents[name] = document
        self._generation += 1
        self._audit.record(change)
        if self._events is not None:
            payload = {"name": name, "version": version + 1, "generation": self._generation}
            await self._events.publish("control", payload)
        return document

    async def generation(self) -> int:
        """Grows with every write."""
        return self._generation
