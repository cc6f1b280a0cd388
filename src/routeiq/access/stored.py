"""Stored keys: what is in the body of an `Entity`, and how a key can have a new secret while the old one ends.

A key keeps its id for life, because limits are counted under it. Each new secret is an entity of its own, a
*secret of* the key, with no settings. Which secret is good, and until when an old one still is, stands in the
key's body: so a rotation is one write, and whatever fails before or after it leaves one good secret.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from routeiq.access.inheritance import Level, Line, Resolved, resolve
from routeiq.access.principal import Principal
from routeiq.config.access import EntitySettings
from routeiq.stores import Directory, Entity
from routeiq.types import JsonObject
from routeiq.values import value

logger = logging.getLogger("routeiq.access")

_KEY, _ROTATION = "secret_of", "rotation"
_REPLACED = "This API key was replaced by a new one."
_UNREADABLE = "The settings of this API key cannot be read by this gateway. Its operator finds why in the log."


@value
class Rotation:
    """Which entity has the good secret (`""`: the key itself), and until when old ones hold."""

    current: str = ""
    until: tuple[tuple[str, float], ...] = ()


def settings_of(entity: Entity) -> EntitySettings:
    """What the operator set.

    Raises:
        ValueError: it was written by a newer version, or damaged.
    """
    body = entity.body or {}
    return EntitySettings.model_validate({k: v for k, v in body.items() if k != _ROTATION})


def rotation_of(entity: Entity) -> Rotation:
    """How often this key had its secret replaced."""
    found: dict[str, Any] = (entity.body or {}).get(_ROTATION, {})
    return Rotation(
        current=found.get("current", ""),
        until=tuple((one, float(end)) for one, end in found.get("until", {}).items()),
    )


def body_of(settings: EntitySettings, rotation: Rotation | None = None) -> JsonObject:
    """What is stored: only what differs from the defaults."""
    body: JsonObject = settings.model_dump(mode="json", exclude_defaults=True)
    if rotation is not None and rotation.current:
        body[_ROTATION] = {"current": rotation.current, "until": dict(rotation.until)}
    return body


def secret_body(key_id: str) -> JsonObject:
    """The body of an entity that is only a secret of a key."""
    return {_KEY: key_id}


def secret_of(entity: Entity) -> str | None:
    """The id of the key that this entity is a secret of; `None` for a key itself."""
    found: str | None = (entity.body or {}).get(_KEY)
    return found


def level_of(entity: Entity) -> Level:
    """What a stored entity says, without what it inherits."""
    return Level(
        kind=entity.kind,
        id=entity.id,
        alias=entity.alias,
        settings=settings_of(entity),
        expires_at=entity.expires_at,
        revoked_at=entity.revoked_at,
    )


async def resolve_stored(
    directory: Directory, found: Entity, defaults: EntitySettings
) -> Resolved | None:
    """The key whose secret was found, with its user and team; `None` where one of them is gone.

    Settings that cannot be read refuse the key: they may be limits.

    Raises:
        StoreUnavailable: the directory cannot be asked.
    """
    key_id = secret_of(found)
    key = found if key_id is None else await directory.get("key", key_id)
    if key is None:
        return None
    user = None if key.owner is None else await directory.get("user", key.owner)
    team_id = key.team if user is None else user.team
    team = None if team_id is None else await directory.get("team", team_id)
    if (key.owner is not None and user is None) or (team_id is not None and team is None):
        return None
    entities = [entity for entity in (key, user, team) if entity is not None]
    line: Line = tuple((entity.kind, entity.id) for entity in entities)
    try:
        levels = {entity.kind: level_of(entity) for entity in entities}
    except ValueError as error:
        extra = {"key": key.id, "error": str(error)}
        logger.error("settings of a key, its user or its team cannot be read", extra=extra)
        principal = Principal(alias=key.alias, key_id=key.id)
        return Resolved(principal=principal, refusal=_UNREADABLE, line=line)
    resolved = resolve(
        levels["key"], user=levels.get("user"), team=levels.get("team"), defaults=defaults
    )
    return _with_secret(resolved, key, "" if key_id is None else found.id)


def _with_secret(resolved: Resolved, key: Entity, secret: str) -> Resolved:
    """The same, for one secret of the key: an old one ends earlier, or has ended."""
    rotation = rotation_of(key)
    if secret == rotation.current:
        return resolved
    end = dict(rotation.until).get(secret)
    if end is None:
        return replace(resolved, refusal=resolved.refusal or _REPLACED)
    return resolved.ending(end)
