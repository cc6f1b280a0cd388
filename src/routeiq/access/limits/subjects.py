"""Whose limits: a key, a user or a team by name, stored or declared, as the principal that its limits hold for."""

from __future__ import annotations

from routeiq.access.administration import Administration
from routeiq.access.declared import PREFIX, Declared, digest_of
from routeiq.access.inheritance import Level, resolve
from routeiq.access.principal import Principal
from routeiq.access.stored import level_of, resolve_stored
from routeiq.config.access import DeclaredKey, DeclaredUser, EntitySettings
from routeiq.exceptions import NotFound
from routeiq.stores import Directory, Entity, EntityKind


class Subjects:
    """Finds them by id or alias; what is declared goes first, as it does for keys."""

    def __init__(
        self, administration: Administration, directory: Directory, *, defaults: EntitySettings
    ) -> None:
        self._administration = administration
        self._directory = directory
        self._defaults = defaults

    async def find(self, kind: EntityKind, name: str) -> Principal:
        """A principal with the rules of this level and those above it.

        Raises:
            NotFound: there is none, or its team is gone.
            StoreUnavailable: the directory cannot be asked.
        """
        declared = self._administration.declared
        found = None if declared is None else _declared(declared, kind, name.removeprefix(PREFIX))
        if found is not None:
            return found
        entity = await self._administration.find(kind, name)
        if kind == "key":
            resolved = await resolve_stored(self._directory, entity, self._defaults)
            if resolved is not None:
                return resolved.principal
        else:
            team = await self._team(entity)
            level = None if team is None else level_of(team)
            return resolve(level_of(entity), team=level, defaults=self._defaults).principal
        raise NotFound(f"The user or team of this {kind} is gone.")

    async def _team(self, entity: Entity) -> Entity | None:
        if entity.kind == "team" or entity.team is None:
            return None
        team = await self._directory.get("team", entity.team)
        if team is None:
            raise NotFound(f"The team of this {entity.kind} is gone.")
        return team


def _declared(declared: Declared, kind: EntityKind, name: str) -> Principal | None:
    entry = declared.entries(kind).get(name)
    if entry is None:
        return None
    if isinstance(entry, DeclaredKey):
        found = declared.find(digest_of(entry.key.encode()))
        return None if found is None else found.principal
    team_name = entry.team if isinstance(entry, DeclaredUser) else None
    team = None
    if team_name is not None:
        team = _level("team", team_name, declared.access.teams[team_name])
    return resolve(
        _level(kind, name, entry), team=team, defaults=declared.access.defaults
    ).principal


def _level(kind: EntityKind, name: str, settings: EntitySettings) -> Level:
    return Level(kind=kind, id=PREFIX + name, alias=name, settings=settings)
