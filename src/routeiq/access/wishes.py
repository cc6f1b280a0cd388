"""What an admin asks for when a key, a user or a team is made or changed, read strictly from JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from routeiq.access.declared import PREFIX
from routeiq.access.expiry import expiry_of
from routeiq.config.access import EntitySettings
from routeiq.exceptions import InvalidRequest
from routeiq.stores import EntityKind
from routeiq.types import JsonObject

MAX_ALIAS = 128
MAX_GRACE_S = 30 * 86_400.0
_TAKEN = re.compile(r"master|anonymous|unknown|admin-[0-9]+|sk-.*|(key|user|team)-[0-9a-f]{19}.*")
_FIELDS: Mapping[EntityKind, frozenset[str]] = {
    "key": frozenset({"alias", "settings", "expires", "user", "team"}),
    "user": frozenset({"alias", "settings", "expires", "team"}),
    "team": frozenset({"alias", "settings", "expires"}),
}


def only_fields(kind: EntityKind, body: JsonObject) -> None:
    """Refuse fields that would be ignored.

    Raises:
        InvalidRequest: there is one.
    """
    allowed = _FIELDS[kind]
    for name in body:
        if name not in allowed:
            names = ", ".join(sorted(allowed))
            raise InvalidRequest(f"A {kind} has no field {name[:40]!r}; give {names}.", param=name)
    if body.get("user") is not None and body.get("team") is not None:
        raise InvalidRequest("Give `user` or `team`: a user has a team of its own.", param="team")


def alias_in(body: JsonObject) -> str:
    """The name that people see.

    Raises:
        InvalidRequest: it is missing, cannot be shown, or means something else.
    """
    alias = body.get("alias")
    if not isinstance(alias, str) or not alias:
        raise InvalidRequest("`alias` must be a non-empty string.", param="alias")
    if len(alias) > MAX_ALIAS or not alias.isprintable() or alias != alias.strip():
        raise InvalidRequest(
            f"`alias` must be printable, at most {MAX_ALIAS} characters, with no space at its ends.",
            param="alias",
        )
    if alias.startswith(PREFIX) or _TAKEN.fullmatch(alias):
        raise InvalidRequest("This `alias` could be taken for something else.", param="alias")
    return alias


def settings_in(body: JsonObject, before: EntitySettings | None = None) -> EntitySettings:
    """The settings, as JSON merge patch (RFC 7396) of those that were there: `null` goes back to the default.

    Raises:
        InvalidRequest: an unknown setting, or a value that cannot be.
    """
    given = body.get("settings", {})
    if not isinstance(given, dict):
        raise InvalidRequest("`settings` must be an object.", param="settings")
    start = {} if before is None else before.model_dump(mode="json", exclude_defaults=True)
    try:
        return EntitySettings.model_validate(merged(start, given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["settings", *(str(part) for part in first["loc"])])
        raise InvalidRequest(f"`{place}`: {first['msg']}.", param=place) from error


def merged(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    result = dict(before)
    for name, new in patch.items():
        if new is None:
            result.pop(name, None)
        elif isinstance(new, dict):
            old = result.get(name)
            result[name] = merged(old if isinstance(old, dict) else {}, new)
        else:
            result[name] = new
    return result


def expiry_in(body: JsonObject, now: float) -> float | None:
    """When it ends; `None` for never.

    Raises:
        InvalidRequest: not a time, or one that has passed.
    """
    text = body.get("expires")
    if text is None:
        return None
    try:
        if not isinstance(text, str):
            raise ValueError("write a text")
        end = expiry_of(text, now=now)
    except ValueError as error:
        raise InvalidRequest(f"`expires`: {error}.", param="expires") from error
    if end <= now:
        raise InvalidRequest("`expires` has passed already; revoke instead.", param="expires")
    return end


def reference_in(body: JsonObject, name: str) -> str | None:
    """The id or alias of a user or a team.

    Raises:
        InvalidRequest: not a text.
    """
    found = body.get(name)
    if found is not None and (not isinstance(found, str) or not found):
        raise InvalidRequest(f"`{name}` must be an id or an alias, or null.", param=name)
    return found


def grace_in(body: JsonObject) -> float:
    """How long an old secret still holds.

    Raises:
        InvalidRequest: not a number of seconds in the bounds.
    """
    grace = body.get("grace", 0)
    number = isinstance(grace, int | float) and not isinstance(grace, bool)
    if set(body) - {"grace"} or not number or not 0 <= grace <= MAX_GRACE_S:
        raise InvalidRequest(
            f"Give only `grace`: for how many seconds the old secret still holds, 0 to {MAX_GRACE_S:.0f}.",
            param="grace",
        )
    return float(grace)
