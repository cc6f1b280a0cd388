"""A key of a user of a team, and the cache over them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from routeiq.access.inheritance import Resolved
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper, hash_secret, new_secret
from routeiq.stores import Change, Entity, EntityKind
from tests.support.clock import FakeClock
from tests.support.directory import FakeDirectory, FakeDocuments

CHANGE = Change(actor="test", action="test", target="test")
PEPPER = Pepper(FakeDocuments(), setting="a setting for the tests")
assert PEPPER.value is not None
TOKEN = new_secret(PEPPER.value).encode()


class World:
    """A directory with one key of a user of a team, and a cache over it."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        self.clock = clock
        self.directory = FakeDirectory()
        self.put("team", "team-1")
        self.put("user", "user-1", team="team-1")
        self.add_key("key-1", TOKEN, owner="user-1")
        self.options = options
        self.cache = KeyCache(self.directory, pepper=PEPPER, clock=clock, **options)

    def put(self, kind: EntityKind, id: str, **more: Any) -> None:
        self.directory.entities[kind, id] = Entity(id=id, kind=kind, alias=id, version=1, **more)

    def add_key(self, id: str, token: bytes, **more: Any) -> None:
        assert PEPPER.value is not None
        self.put("key", id, secret_hash=hash_secret(token, PEPPER.value).hex(), **more)

    async def change(self, kind: EntityKind, id: str, **more: Any) -> None:
        """As another worker does: nobody is told."""
        entity = self.directory.entities[kind, id]
        await self.directory.update(replace(entity, **more), CHANGE)

    async def revoke(self) -> None:
        await self.change("key", "key-1", revoked_at=1.0)

    async def ask(self, token: bytes = TOKEN) -> Resolved:
        """As the authenticator does."""
        return self.cache.known(token) or await self.cache.find(token)

    async def settle(self) -> None:
        """Let what runs behind requests end."""
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def finds(self) -> int:
        return self.directory.asked["find"]
