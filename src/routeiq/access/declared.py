"""Keys, users and teams that stand in config.yaml: same inheritance as stored ones, and read-only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from routeiq.access.expiry import expiry_of
from routeiq.access.inheritance import Level, Resolved, resolve
from routeiq.config.access import Access, DeclaredKey, DeclaredTeam, DeclaredUser
from routeiq.exceptions import ConfigError, Problem
from routeiq.stores import EntityKind

PREFIX = "config:"
"""Of ids: nothing that is stored may have an id like these."""
_KEYS = "routeiq.access.keys"


def digest_of(token: bytes) -> bytes:
    """The hash under which a declared secret is looked up.

    It needs no pepper: it never leaves this process, and what is hashed stands in the configuration anyway.
    """
    return hashlib.sha256(token).digest()


def declared_problems(access: Access) -> list[Problem]:
    """What the types cannot say: unknown users and teams, secrets that are there twice, expiries that are none."""
    problems = [*_unknown_teams(access)]
    seen: dict[str, str] = {}
    for name, key in access.keys.items():
        place = f"{_KEYS}.{name}"
        problems += _unknown(f"{place}.user", "user", key.user, access.users)
        problems += _unknown(f"{place}.team", "team", key.team, access.teams)
        if key.key in seen:
            message = f"the same secret as `{seen[key.key]}`: nobody could tell them apart."
            problems.append(Problem(key=f"{place}.key", message=message, fix="Give each its own."))
        seen.setdefault(key.key, name)
        if key.expires is not None:
            try:
                expiry_of(key.expires)
            except ValueError as error:
                problems.append(Problem(key=f"{place}.expires", message=f"{error}."))
    return problems


def _unknown_teams(access: Access) -> Iterator[Problem]:
    for name, user in access.users.items():
        yield from _unknown(f"routeiq.access.users.{name}.team", "team", user.team, access.teams)


def _unknown(
    place: str, kind: EntityKind, name: str | None, known: Mapping[str, object]
) -> Iterator[Problem]:
    if name is not None and name not in known:
        message = f"there is no {kind} `{name}` in routeiq.access.{kind}s."
        fix = "A key or user of config.yaml belongs to what stands there too."
        yield Problem(key=place, message=message, fix=fix)


class Declared:
    """What `routeiq.access` declares, resolved once.

    Raises:
        ConfigError: see `declared_problems`.
    """

    def __init__(self, access: Access) -> None:
        problems = declared_problems(access)
        if problems:
            raise ConfigError(problems)
        self.access = access
        self._found: dict[bytes, Resolved] = {}
        for name, key in access.keys.items():
            self._found[digest_of(key.key.encode())] = self._resolved(name, key)

    def find(self, digest: bytes) -> Resolved | None:
        """The key whose secret has this `digest_of`."""
        return self._found.get(digest)

    def entries(self, kind: EntityKind) -> Mapping[str, DeclaredKey | DeclaredUser | DeclaredTeam]:
        """What is declared of one kind, by name."""
        access = self.access
        if kind == "key":
            return access.keys
        return access.users if kind == "user" else access.teams

    def _resolved(self, name: str, key: DeclaredKey) -> Resolved:
        user = None if key.user is None else self.access.users[key.user]
        team_name = key.team if user is None else user.team
        expires = None if key.expires is None else expiry_of(key.expires)
        return resolve(
            Level(kind="key", id=PREFIX + name, alias=name, settings=key, expires_at=expires),
            user=None if user is None else _level("user", key.user, user),
            team=None
            if team_name is None
            else _level("team", team_name, self.access.teams[team_name]),
            defaults=self.access.defaults,
        )


def _level(kind: EntityKind, name: str | None, settings: DeclaredUser | DeclaredTeam) -> Level:
    return Level(kind=kind, id=f"{PREFIX}{name}", alias=name or "", settings=settings)
