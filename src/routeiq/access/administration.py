"""Making and changing keys, users and teams: every rule about who may do that and what must stay true."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from routeiq.access.declared import PREFIX, Declared
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper, display_prefix, hash_secret, new_secret
from routeiq.access.principal import Principal
from routeiq.access.stored import (
    Rotation,
    body_of,
    rotation_of,
    secret_body,
    secret_of,
    settings_of,
)
from routeiq.access.wishes import alias_in, expiry_in, only_fields, reference_in, settings_in
from routeiq.config.access import EntitySettings
from routeiq.exceptions import (
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreUnavailable,
)
from routeiq.ports import Clock
from routeiq.stores import Change, Directory, Entity, EntityKind
from routeiq.types import JsonObject
from routeiq.values import value

logger = logging.getLogger("routeiq.access")
Announce = Callable[[str, JsonObject], Awaitable[None]]
T = TypeVar("T")
PAGE = 500


@value
class Acting:
    """Who changes something, in which request, and which version was seen before."""

    principal: Principal
    request_id: str | None = None
    version: int | None = None

    def change(self, action: str, target: str, details: JsonObject | None = None) -> Change:
        """The audit row."""
        return Change(
            actor=self.principal.alias,
            action=action,
            target=target,
            details=details,
            request_id=self.request_id,
        )


class Administration:
    """The directory with its rules.

    Nobody can hand out, or get hold of, permissions that they do not have themselves: what has more than the
    caller is not the caller's to change.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        pepper: Pepper,
        clock: Clock,
        announce: Announce,
        declared: Declared | None = None,
        cache: KeyCache | None = None,
    ) -> None:
        self._directory = directory
        self._pepper = pepper
        self._clock = clock
        self._announce = announce
        self.declared = declared
        self._cache = cache

    async def every(
        self, kind: EntityKind, *, after: str = "", team: str | None = None
    ) -> AsyncIterator[Entity]:
        """All that are stored, in the order of their ids, without the extra secrets of keys."""
        while True:
            page = await self._directory.list(kind, team=team, after=after, limit=PAGE)
            for entity in page:
                if secret_of(entity) is None:
                    yield entity
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def find(self, kind: EntityKind, name: str) -> Entity:
        """One by its id, or by its alias.

        Raises:
            NotFound: there is none.
        """
        found = await self._directory.get(kind, name)
        if found is not None and secret_of(found) is None:
            return found
        async for entity in self.every(kind):
            if entity.alias == name:
                return entity
        raise NotFound(f"No {kind} {name[:100]!r}.")

    async def create(
        self, kind: EntityKind, body: JsonObject, acting: Acting
    ) -> tuple[Entity, str | None]:
        """A new one, and for a key its secret, which is never seen again.

        Raises:
            RequestError: the body cannot be used, or more would be granted than the caller has.
        """
        only_fields(kind, body)
        now = self._clock.wall()
        secret = new_secret(await self._pepper.get()) if kind == "key" else None
        entity = Entity(
            id=f"{kind}-{int(now * 1000):011x}{secrets.token_hex(4)}",
            kind=kind,
            alias=self._free_alias(kind, body),
            body=body_of(settings_in(body)),
            secret_hash=None if secret is None else await self._hash(secret),
            prefix=None if secret is None else display_prefix(secret),
            owner=await self._reference(body, "user"),
            team=await self._reference(body, "team"),
            created_at=now,
            expires_at=expiry_in(body, now),
        )
        await self._require_not_above(entity, acting.principal)
        details = {"alias": entity.alias, "settings": entity.body}
        change = acting.change(f"{kind}s.create", entity.id, details)
        write = partial(self._directory.create, entity, change)
        return await self._written(kind, entity.id, write), secret

    async def update(self, kind: EntityKind, name: str, body: JsonObject, acting: Acting) -> Entity:
        """Change what the body names, and nothing else.

        Raises:
            RequestError: see `create`; somebody else changed it meanwhile.
        """
        only_fields(kind, body)
        entity = await self._to_change(kind, name, acting)
        now = self._clock.wall()
        settings = settings_in(body, _settings(entity))
        changed = replace(entity, body=body_of(settings, rotation_of(entity)))
        if "alias" in body and body["alias"] != entity.alias:
            changed = replace(changed, alias=self._free_alias(kind, body))
        if "expires" in body:
            changed = replace(changed, expires_at=expiry_in(body, now))
        changed = await self._moved(changed, body)
        await self._require_not_above(changed, acting.principal)
        details = {"fields": sorted(body), "settings": body.get("settings", {})}
        return await self._update(changed, acting.change(f"{kind}s.update", entity.id, details))

    async def _moved(self, entity: Entity, body: JsonObject) -> Entity:
        """Under another user or team. A key has one of the two: the other one makes way."""
        if "user" in body:
            owner = await self._reference(body, "user")
            entity = replace(entity, owner=owner, team=entity.team if owner is None else None)
        if "team" in body:
            team = await self._reference(body, "team")
            entity = replace(entity, team=team, owner=entity.owner if team is None else None)
        return entity

    async def rotate(self, name: str, grace_s: float, acting: Acting) -> tuple[Entity, str]:
        """A new secret for a key; the old one holds for `grace_s` more seconds.

        Raises:
            RequestError: no such key, a revoked one, or not the caller's to change.
        """
        key = await self._to_change("key", name, acting)
        if key.revoked_at is not None:
            raise Conflict("A revoked key gets no new secret; create another key.")
        rotation, now = rotation_of(key), self._clock.wall()
        secret, id = new_secret(await self._pepper.get()), f"{key.id}.{secrets.token_hex(4)}"
        extra = Entity(
            id=id,
            kind="key",
            alias=id,
            body=secret_body(key.id),
            secret_hash=await self._hash(secret),
            prefix=display_prefix(secret),
            created_at=now,
        )
        adding = acting.change("keys.secret", id)
        await self._written("key", id, partial(self._directory.create, extra, adding))
        # One that was to hold for longer holds for no longer than this: the newest wish counts.
        olds = {**dict(rotation.until), rotation.current: now + grace_s}
        until = {old: min(end, now + grace_s) for old, end in olds.items()}
        until = {old: end for old, end in until.items() if end > now}
        new = Rotation(current=id, until=tuple(until.items()))
        changed = replace(key, prefix=extra.prefix, body=body_of(_settings(key), new))
        try:
            stored = await self._update(
                changed, acting.change("keys.rotate", key.id, {"grace_s": grace_s})
            )
        except Conflict:
            await self._drop_secret(id, acting)
            raise
        for old in set(olds) - set(until) - {""}:
            await self._drop_secret(old, acting)
        return stored, secret

    async def revoke(self, name: str, acting: Acting) -> Entity:
        """Refuse a key from now on, for good, with all its secrets. It stays visible.

        Raises:
            RequestError: no such key, or not the caller's to change.
        """
        key = await self._to_change("key", name, acting)
        if key.revoked_at is not None:
            return key
        changed = replace(key, revoked_at=self._clock.wall())
        return await self._update(changed, acting.change("keys.revoke", key.id))

    async def delete(self, kind: EntityKind, name: str, acting: Acting) -> str:
        """Remove one; its id.

        Raises:
            RequestError: no such one, keys or users belong to it, or not the caller's to change.
        """
        entity = await self._to_change(kind, name, acting)
        change = acting.change(f"{kind}s.delete", entity.id, {"alias": entity.alias})
        write = partial(self._directory.delete, kind, entity.id, change)
        if not await self._written(kind, entity.id, write):
            raise NotFound(f"No {kind} {name[:100]!r}.")
        if kind == "key":
            rotation = rotation_of(entity)
            for secret in {rotation.current, *dict(rotation.until)} - {""}:
                await self._drop_secret(secret, acting)
        return entity.id

    async def _to_change(self, kind: EntityKind, name: str, acting: Acting) -> Entity:
        if name.startswith(PREFIX):
            raise Conflict(f"This {kind} stands in config.yaml; change it there.")
        entity = await self.find(kind, name)
        if acting.version is not None and acting.version != entity.version:
            raise PreconditionFailed(
                f"This {kind} has version {entity.version} now, not {acting.version}."
            )
        await self._require_not_above(entity, acting.principal)
        return entity

    async def _require_not_above(self, entity: Entity, caller: Principal) -> None:
        """Whether everything that this one may do, inherited or not, is something that the caller may do."""
        if caller.admin:
            return
        for permission in sorted(await self._permissions(entity)):
            if not caller.may(permission):
                raise PermissionDenied(
                    f"This {entity.kind} has the permission `{permission}`, which your key has not."
                )

    async def _permissions(self, entity: Entity) -> tuple[str, ...]:
        nearest: Entity | None = entity
        while nearest is not None:
            own = _settings(nearest).permissions
            if own is not None:
                return own
            if nearest.owner is not None:
                nearest = await self._directory.get("user", nearest.owner)
            elif nearest.team is not None:
                nearest = await self._directory.get("team", nearest.team)
            else:
                nearest = None
        return ()

    async def _reference(self, body: JsonObject, kind: EntityKind) -> str | None:
        name = reference_in(body, kind)
        if name is None:
            return None
        if name.startswith(PREFIX):
            message = f"`{kind}`: what is stored cannot belong to what stands in config.yaml."
            raise InvalidRequest(message, param=kind)
        try:
            return (await self.find(kind, name)).id
        except NotFound as error:
            raise InvalidRequest(f"`{kind}`: {error.message}", param=kind) from error

    def _free_alias(self, kind: EntityKind, body: JsonObject) -> str:
        alias = alias_in(body)
        if self.declared is not None and alias in self.declared.entries(kind):
            raise Conflict(f"A {kind} of this alias stands in config.yaml.")
        return alias

    async def _hash(self, secret: str) -> str:
        return hash_secret(secret.encode(), await self._pepper.get()).hex()

    async def _update(self, entity: Entity, change: Change) -> Entity:
        write = partial(self._directory.update, entity, change)
        return await self._written(entity.kind, entity.id, write)

    async def _drop_secret(self, id: str, acting: Acting) -> None:
        """Remove a secret that is good no more; it is refused with or without this."""
        try:
            change = acting.change("keys.secret.delete", id)
            await self._written("key", id, partial(self._directory.delete, "key", id, change))
        except StoreUnavailable as error:
            logger.warning("an old secret stays stored", extra={"secret": id, "error": str(error)})

    async def _written(self, kind: EntityKind, id: str, write: Callable[[], Awaitable[T]]) -> T:
        """Write, and tell this worker at once, the others at best: they also look at the generation."""
        before = await self._directory.generation()
        result = await write()
        if self._cache is not None:
            self._cache.forget(kind, id)
        try:
            after = await self._directory.generation()
            payload: JsonObject = {"kind": kind, "id": id}
            if after == before + 1:  # else it may be another change's
                payload["generation"] = after
            await self._announce("keys", payload)
        except StoreUnavailable as error:
            logger.warning("a change of keys was not announced", extra={"error": str(error)})
        return result


def _settings(entity: Entity) -> EntitySettings:
    """What is set now; nothing is written over what cannot be read."""
    try:
        return settings_of(entity)
    except ValueError as error:
        raise Conflict(
            f"The settings of the {entity.kind} {entity.alias!r} were written by another version of RouteIQ."
        ) from error
