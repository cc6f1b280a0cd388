"""Keys, users and teams as the admin API shows them. Hashes and secrets are never among it."""

from __future__ import annotations

from routeiq.access.declared import PREFIX
from routeiq.access.expiry import expiry_of, iso
from routeiq.access.stored import rotation_of, settings_of
from routeiq.config.access import DeclaredKey, DeclaredTeam, DeclaredUser, EntitySettings
from routeiq.stores import Entity, EntityKind
from routeiq.types import JsonObject

_OWN = set(EntitySettings.model_fields)


def stored_view(entity: Entity, *, now: float) -> JsonObject:
    """A stored one; what a newer version wrote is shown as it is."""
    try:
        own = settings_of(entity)
        settings = own.model_dump(mode="json", exclude_defaults=True)
        disabled = own.disabled
    except ValueError:
        settings, disabled = dict(entity.body or {}), True
    view: JsonObject = {
        "id": entity.id,
        "kind": entity.kind,
        "alias": entity.alias,
        "source": "store",
        "status": _status(
            disabled, entity.expires_at, now=now, revoked=entity.revoked_at is not None
        ),
        "version": entity.version,
        "settings": settings,
        "created_at": iso(entity.created_at),
        "expires_at": iso(entity.expires_at),
    }
    if entity.kind != "team":
        view["team"] = entity.team
    if entity.kind == "key":
        ends = [end for _, end in rotation_of(entity).until if end > now]
        view |= {
            "user": entity.owner,
            "prefix": entity.prefix,
            "revoked_at": iso(entity.revoked_at),
            "old_secret_until": iso(max(ends, default=None)),
        }
    return view


def declared_view(
    kind: EntityKind, name: str, settings: DeclaredKey | DeclaredUser | DeclaredTeam, *, now: float
) -> JsonObject:
    """One of config.yaml."""
    expires = None
    if isinstance(settings, DeclaredKey) and settings.expires is not None:
        expires = expiry_of(settings.expires)
    view: JsonObject = {
        "id": PREFIX + name,
        "kind": kind,
        "alias": name,
        "source": "config",
        "status": _status(settings.disabled, expires, now=now),
        "settings": settings.model_dump(mode="json", exclude_defaults=True, include=_OWN),
        "expires_at": iso(expires),
    }
    if not isinstance(settings, DeclaredTeam):
        view["team"] = None if settings.team is None else PREFIX + settings.team
    if isinstance(settings, DeclaredKey):
        view["user"] = None if settings.user is None else PREFIX + settings.user
    return view


def _status(disabled: bool, expires_at: float | None, *, now: float, revoked: bool = False) -> str:
    if revoked:
        return "revoked"
    if disabled:
        return "disabled"
    return "expired" if expires_at is not None and expires_at <= now else "active"
