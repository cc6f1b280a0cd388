"""Control state: versioned documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from routeiq.exceptions import Conflict
from routeiq.state.database import Database, Row, Session
from routeiq.stores import Change, Document
from routeiq.types import JsonObject

from . import generations
from .audit import as_json, as_text, record

COLUMNS = "name, version, body, updated_at, updated_by"
READ = f"SELECT {COLUMNS} FROM routeiq_documents WHERE name = :name"  # noqa: S608
ALL = f"SELECT {COLUMNS} FROM routeiq_documents"  # noqa: S608
SET = " SET version = version + 1, body = :body, updated_at = :updated_at, updated_by = :updated_by"
REPLACE = f"UPDATE routeiq_documents{SET} WHERE name = :name RETURNING version"
COMPARE_AND_SET = (
    f"UPDATE routeiq_documents{SET} WHERE name = :name AND version = :expected RETURNING version"
)
CREATE = (
    f"INSERT INTO routeiq_documents ({COLUMNS})"  # noqa: S608
    " VALUES (:name, 1, :body, :updated_at, :updated_by) ON CONFLICT DO NOTHING RETURNING version"
)


class SqlDocuments:
    """`routeiq.stores.Documents`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, name: str) -> Document:
        """One document; version 0 where it was never written."""
        row = await self._database.run(
            lambda session: session.row(READ, {"name": name}), write=False
        )
        return Document(name=name) if row is None else _document(row)

    async def all(self) -> tuple[int, Mapping[str, Document]]:
        """The generation and every document, read together."""

        def work(session: Session) -> tuple[int, list[Row]]:
            return generations.read(session, "control"), session.rows(ALL)

        generation, rows = await self._database.run(work, write=False)
        return generation, {row[0]: _document(row) for row in rows}

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        """Replace one; `None` deletes its body (the version still grows).

        Raises:
            Conflict: `expected` is not the version that is there.
        """

        def work(session: Session) -> Document:
            generation = generations.bump(session, "control")
            now = session.now()
            parameters = {
                "name": name,
                "body": as_text(body),
                "updated_at": now,
                "updated_by": change.actor,
            }
            version = _write(session, parameters, expected)
            record(session, change)
            payload = {"name": name, "version": version, "generation": generation}
            session.notify("control", orjson.dumps(payload).decode())
            return Document(
                name=name, version=version, body=body, updated_at=now, updated_by=change.actor
            )

        return await self._database.run(work)

    async def generation(self) -> int:
        """Grows with every write, whoever made it."""
        return await self._database.run(
            lambda session: generations.read(session, "control"), write=False
        )


def _write(session: Session, parameters: dict[str, Any], expected: int | None) -> int:
    if expected is None:
        row = session.row(REPLACE, parameters) or session.row(CREATE, parameters)
    elif expected == 0:
        row = session.row(CREATE, parameters)
    else:
        row = session.row(COMPARE_AND_SET, {**parameters, "expected": expected})
    if row is not None:
        return int(row[0])
    name = parameters["name"]
    there = session.row(READ, {"name": name})
    raise Conflict(f"{name} has version {there[1] if there else 0} now, not {expected}")


def _document(row: Row) -> Document:
    return Document(
        name=row[0],
        version=row[1],
        body=as_json(row[2]),
        updated_at=row[3],
        updated_by=row[4],
    )
