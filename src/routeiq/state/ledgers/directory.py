"""Keys, users and teams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from routeiq.exceptions import Conflict
from routeiq.state.database import Database, Row, Session
from routeiq.stores import Change, Entity, EntityKind

from . import generations
from .audit import as_json, as_text, record

COLUMNS = (
    "id, kind, alias, version, body, secret_hash, prefix, owner, team, created_at, expires_at,"
    " revoked_at"
)
FIND = f"SELECT {COLUMNS} FROM routeiq_entities WHERE secret_hash = :secret_hash"  # noqa: S608
GET = f"SELECT {COLUMNS} FROM routeiq_entities WHERE kind = :kind AND id = :id"  # noqa: S608
LIST = f"SELECT {COLUMNS} FROM routeiq_entities WHERE kind = :kind AND id > :after"  # noqa: S608
OF_TEAM = " AND team = :team"
PAGE = " ORDER BY id LIMIT :limit"
CREATE = (
    f"INSERT INTO routeiq_entities ({COLUMNS})"  # noqa: S608
    " VALUES (:id, :kind, :alias, 1, :body, :secret_hash, :prefix, :owner, :team, :created_at,"
    f" :expires_at, :revoked_at) RETURNING {COLUMNS}"
)
UPDATE = (
    "UPDATE routeiq_entities SET version = version + 1, alias = :alias, body = :body,"  # noqa: S608
    " secret_hash = :secret_hash, prefix = :prefix, owner = :owner, team = :team,"
    " expires_at = :expires_at, revoked_at = :revoked_at"
    f" WHERE kind = :kind AND id = :id AND version = :version RETURNING {COLUMNS}"
)
DELETE = "DELETE FROM routeiq_entities WHERE kind = :kind AND id = :id"
SAME_ID = "SELECT 1 FROM routeiq_entities WHERE id = :id"
SAME_ALIAS = "SELECT 1 FROM routeiq_entities WHERE kind = :kind AND alias = :alias AND id <> :id"
SAME_HASH = "SELECT 1 FROM routeiq_entities WHERE secret_hash = :secret_hash AND id <> :id"
MEMBER = {
    "user": "SELECT kind, alias FROM routeiq_entities WHERE owner = :id LIMIT 1",
    "team": "SELECT kind, alias FROM routeiq_entities"
    " WHERE kind IN ('key', 'user') AND team = :id LIMIT 1",
}


class SqlDirectory:
    """`routeiq.stores.Directory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, secret_hash: str) -> Entity | None:
        """The key with this hash, revoked ones included."""
        return await self._one(FIND, {"secret_hash": secret_hash})

    async def get(self, kind: EntityKind, id: str) -> Entity | None:
        """One entity by id."""
        return await self._one(GET, {"kind": kind, "id": id})

    async def list(
        self, kind: EntityKind, *, team: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[Entity]:
        """Entities in the order of their ids, from the one after `after`."""
        parameters = {"kind": kind, "after": after, "limit": limit}
        sql = LIST + PAGE
        if team is not None:
            parameters["team"] = team
            sql = LIST + OF_TEAM + PAGE
        rows = await self._database.run(lambda session: session.rows(sql, parameters), write=False)
        return [_entity(row) for row in rows]

    async def create(self, entity: Entity, change: Change) -> Entity:
        """Store a new one, version 1.

        Raises:
            Conflict: the id, the alias (per kind) or the hash is taken.
        """

        def work(session: Session) -> Entity:
            generation = generations.bump(session, "keys")
            if session.row(SAME_ID, {"id": entity.id}):
                raise Conflict(f"there is already something with the id {entity.id!r}")
            _require_free(session, entity)
            parameters = _parameters(entity)
            parameters["created_at"] = entity.created_at or session.now()
            row = session.row(CREATE, parameters)
            return _changed(session, row, change, generation)

        return await self._database.run(work)

    async def update(self, entity: Entity, change: Change) -> Entity:
        """Replace one; `entity.version` is the version that was read. When it was created stays.

        Raises:
            Conflict: it was changed meanwhile, or it is gone, or its new alias or hash is taken.
        """

        def work(session: Session) -> Entity:
            generation = generations.bump(session, "keys")
            _require_free(session, entity)
            parameters = _parameters(entity)
            parameters["version"] = entity.version
            row = session.row(UPDATE, parameters)
            if row is None:
                raise Conflict(_why_stale(session, entity))
            return _changed(session, row, change, generation)

        return await self._database.run(work)

    async def delete(self, kind: EntityKind, id: str, change: Change) -> bool:
        """Remove one; whether it was there.

        Raises:
            Conflict: keys or users still belong to it.
        """

        def work(session: Session) -> None:
            generation = generations.bump(session, "keys")
            member = session.row(MEMBER[kind], {"id": id}) if kind in MEMBER else None
            if member is not None:
                raise Conflict(f"the {member[0]} {member[1]!r} still belongs to this {kind}")
            if not session.count(DELETE, {"kind": kind, "id": id}):
                raise _NotThere
            _announce(session, kind, id, change, generation)

        try:
            await self._database.run(work)
        except _NotThere:
            return False
        return True

    async def generation(self) -> int:
        """Grows with every change, whoever made it."""
        return await self._database.run(
            lambda session: generations.read(session, "keys"), write=False
        )

    async def _one(self, sql: str, parameters: dict[str, Any]) -> Entity | None:
        row = await self._database.run(lambda session: session.row(sql, parameters), write=False)
        return None if row is None else _entity(row)


class _NotThere(Exception):
    """Undoes the bumped generation."""


def _require_free(session: Session, entity: Entity) -> None:
    if session.row(SAME_ALIAS, {"kind": entity.kind, "alias": entity.alias, "id": entity.id}):
        raise Conflict(f"there is already a {entity.kind} called {entity.alias!r}")
    secret_hash = entity.secret_hash
    if secret_hash and session.row(SAME_HASH, {"secret_hash": secret_hash, "id": entity.id}):
        raise Conflict("there is already a key with this secret")


def _why_stale(session: Session, entity: Entity) -> str:
    row = session.row(GET, {"kind": entity.kind, "id": entity.id})
    if row is None:
        return f"the {entity.kind} {entity.alias!r} is gone"
    return (
        f"the {entity.kind} {entity.alias!r} was changed meanwhile: it has version {row[3]} now, "
        f"not {entity.version}"
    )


def _changed(session: Session, row: Row | None, change: Change, generation: int) -> Entity:
    if row is None:
        raise LookupError("the database returned no row for one that it wrote")
    entity = _entity(row)
    _announce(session, entity.kind, entity.id, change, generation)
    return entity


def _announce(session: Session, kind: str, id: str, change: Change, generation: int) -> None:
    record(session, change)
    payload = {"kind": kind, "id": id, "generation": generation}
    session.notify("keys", orjson.dumps(payload).decode())


def _parameters(entity: Entity) -> dict[str, Any]:
    return {
        "id": entity.id,
        "kind": entity.kind,
        "alias": entity.alias,
        "body": as_text(entity.body),
        "secret_hash": entity.secret_hash,
        "prefix": entity.prefix,
        "owner": entity.owner,
        "team": entity.team,
        "expires_at": entity.expires_at,
        "revoked_at": entity.revoked_at,
    }


def _entity(row: Row) -> Entity:
    return Entity(
        id=row[0],
        kind=row[1],
        alias=row[2],
        version=row[3],
        body=as_json(row[4]),
        secret_hash=row[5],
        prefix=row[6],
        owner=row[7],
        team=row[8],
        created_at=row[9],
        expires_at=row[10],
        revoked_at=row[11],
    )
