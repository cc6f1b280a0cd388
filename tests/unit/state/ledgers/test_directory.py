from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from routeiq.exceptions import Conflict
from routeiq.state.database import Database, Session
from routeiq.state.ledgers import SqlAudit, SqlDirectory
from routeiq.stores import Change, Entity, EntityKind

KEY = Entity(
    id="key_1",
    kind="key",
    alias="ci",
    body={"tags": ["ä", "b"], "limits": {"requests_per_minute": 5}},
    secret_hash="hash-1",
    prefix="sk-riq-abcd",
    owner="user_1",
    team="team_1",
    expires_at=2_000_000_000.25,
)


def change(action: str = "keys.create", target: str = "key_1") -> Change:
    return Change(actor="admin", action=action, target=target, details={"n": 1}, request_id="r1")


def entity(number: int, kind: EntityKind = "key", **changes: Any) -> Entity:
    made = Entity(
        id=f"{kind}_{number}", kind=kind, alias=f"{kind} {number}", secret_hash=f"{kind}{number}"
    )
    return replace(made, **changes)


@pytest.fixture
def directory(database: Database) -> SqlDirectory:
    return SqlDirectory(database)


@pytest.mark.anyio
async def test_what_was_created_is_found(directory: SqlDirectory) -> None:
    created = await directory.create(KEY, change())
    assert created.created_at > 1_700_000_000
    assert created == replace(KEY, version=1, created_at=created.created_at)
    assert await directory.find("hash-1") == created
    assert await directory.get("key", "key_1") == created
    assert await directory.get("user", "key_1") is None
    assert await directory.find("hash-2") is None


@pytest.mark.anyio
async def test_a_change_its_audit_row_and_its_generation_go_together(
    directory: SqlDirectory, database: Database
) -> None:
    audit = SqlAudit(database)
    created = await directory.create(KEY, change())
    await directory.update(created, change("keys.update"))
    await directory.delete("key", "key_1", change("keys.delete"))
    rows = await audit.latest()
    assert [row["action"] for row in rows] == ["keys.delete", "keys.update", "keys.create"]
    assert rows[0] | {"id": 0, "time": 0} == {
        "id": 0,
        "time": 0,
        "actor": "admin",
        "action": "keys.delete",
        "target": "key_1",
        "details": {"n": 1},
        "request_id": "r1",
    }
    assert await directory.generation() == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("second", "message"),
    [
        (entity(2, id="key_1"), "already something with the id 'key_1'"),
        (entity(2, "team", id="key_1"), "already something with the id 'key_1'"),
        (entity(2, alias="key 1"), "already a key called 'key 1'"),
        (entity(2, secret_hash="key1"), "already a key with this secret"),
    ],
)
async def test_what_is_taken_is_named(
    directory: SqlDirectory, database: Database, second: Entity, message: str
) -> None:
    await directory.create(entity(1), change())
    with pytest.raises(Conflict, match=message):
        await directory.create(second, change())
    assert await directory.generation() == 1
    assert len(await SqlAudit(database).latest()) == 1


@pytest.mark.anyio
async def test_an_alias_is_unique_per_kind_only(directory: SqlDirectory) -> None:
    for kind in ("key", "user", "team"):
        await directory.create(entity(1, kind, alias="same", secret_hash=None), change())
    assert await directory.generation() == 3


@pytest.mark.anyio
async def test_an_update_replaces_all_but_the_birthday(directory: SqlDirectory) -> None:
    created = await directory.create(KEY, change())
    wanted = replace(
        created,
        alias="new",
        body=None,
        secret_hash="hash-2",
        prefix=None,
        owner=None,
        team=None,
        created_at=5.0,
        expires_at=None,
        revoked_at=1_900_000_000.0,
    )
    updated = await directory.update(wanted, change())
    assert updated == replace(wanted, version=2, created_at=created.created_at)
    assert await directory.find("hash-2") == updated
    assert await directory.find("hash-1") is None


@pytest.mark.anyio
async def test_an_update_of_an_old_version_is_refused(directory: SqlDirectory) -> None:
    created = await directory.create(entity(1), change())
    await directory.update(created, change())
    with pytest.raises(Conflict, match="it has version 2 now, not 1"):
        await directory.update(created, change())
    with pytest.raises(Conflict, match="'key 2' is gone"):
        await directory.update(entity(2), change())
    await directory.create(entity(3), change())
    with pytest.raises(Conflict, match="already a key called 'key 3'"):
        await directory.update(replace(created, version=2, alias="key 3"), change())
    with pytest.raises(Conflict, match="already a key with this secret"):
        await directory.update(replace(created, version=2, secret_hash="key3"), change())
    assert await directory.generation() == 3


@pytest.mark.anyio
async def test_what_others_belong_to_stays(directory: SqlDirectory) -> None:
    await directory.create(entity(1, "team"), change())
    await directory.create(entity(1, "user", team="team_1"), change())
    await directory.create(entity(1, owner="user_1"), change())
    with pytest.raises(Conflict, match="the user 'user 1' still belongs to this team"):
        await directory.delete("team", "team_1", change())
    with pytest.raises(Conflict, match="the key 'key 1' still belongs to this user"):
        await directory.delete("user", "user_1", change())
    for kind in ("key", "user", "team"):
        assert await directory.delete(kind, f"{kind}_1", change())


@pytest.mark.anyio
async def test_deleting_nothing_changes_nothing(
    directory: SqlDirectory, database: Database
) -> None:
    assert not await directory.delete("key", "key_1", change())
    assert await directory.generation() == 0
    assert await SqlAudit(database).latest() == []


@pytest.mark.anyio
async def test_pages_follow_the_bytes_of_the_ids(directory: SqlDirectory) -> None:
    for number, id in enumerate(("b", "B", "a_", "aZ", "é", "c")):
        team = "t" if number % 2 else None
        await directory.create(entity(number, id=id, team=team), change())
    await directory.create(entity(9, "user", id="ba"), change())
    assert await ids(directory) == ["B", "aZ", "a_", "b", "c", "é"]
    assert await ids(directory, limit=2) == ["B", "aZ"]
    assert await ids(directory, after="aZ", limit=2) == ["a_", "b"]
    assert await ids(directory, team="t") == ["B", "aZ", "c"]
    assert await ids(directory, team="t", after="B", limit=1) == ["aZ"]
    assert await ids(directory, team="u") == []


async def ids(directory: SqlDirectory, **query: Any) -> list[str]:
    return [found.id for found in await directory.list("key", **query)]


@pytest.mark.anyio
async def test_of_racing_updates_exactly_one_wins(
    directory: SqlDirectory, database: Database, other: Database
) -> None:
    current = await directory.create(entity(1), change())
    for _ in range(5):
        answers = await asyncio.gather(
            *(SqlDirectory(db).update(current, change()) for db in (database, other) * 2),
            return_exceptions=True,
        )
        won = [answer for answer in answers if isinstance(answer, Entity)]
        assert len(won) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 3
        current = won[0]
    assert current.version == 6
    assert await directory.generation() == 6
    assert len(await SqlAudit(database).latest()) == 6


@pytest.mark.anyio
async def test_of_racing_namesakes_exactly_one_is_made(
    directory: SqlDirectory, database: Database, other: Database
) -> None:
    for number in range(5):
        answers = await asyncio.gather(
            *(
                SqlDirectory(db).create(entity(number * 9 + i, alias=f"{number}"), change())
                for i, db in enumerate((database, other) * 2)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Entity) for answer in answers) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 3
    assert await directory.generation() == 5


@pytest.mark.anyio
async def test_a_member_is_not_made_while_its_team_goes(
    database: Database, other: Database
) -> None:
    """Either the team is gone first, or the delete sees the member."""
    directory = SqlDirectory(database)
    for number in range(5):
        await directory.create(entity(number, "team"), change())
        team = f"team_{number}"
        made, gone = await asyncio.gather(
            SqlDirectory(other).create(entity(number, team=team), change()),
            directory.delete("team", team, change()),
            return_exceptions=True,
        )
        assert isinstance(made, Entity)
        generations = await database.run(announced, write=False)
        if gone is True and database.dialect == "sqlite":
            assert generations[-2:] == [("team", team), ("key", made.id)]


def announced(session: Session) -> list[tuple[str, str]]:
    if session.dialect != "sqlite":
        return []
    rows = session.rows("SELECT payload FROM routeiq_events ORDER BY id")
    return [(event["kind"], event["id"]) for event in (json.loads(row[0]) for row in rows)]


@pytest.mark.anyio
async def test_generations_become_visible_in_order(
    directory: SqlDirectory, database: Database, other: Database
) -> None:
    """A generation that a worker has seen covers every change up to it: none becomes visible later."""
    audit, seen = SqlAudit(other), []
    finished = asyncio.Event()

    async def watch() -> None:
        while not finished.is_set():
            generation = await SqlDirectory(other).generation()
            seen.append((generation, len(await audit.latest(limit=500))))

    watching = asyncio.create_task(watch())
    await asyncio.gather(
        *(
            SqlDirectory(db).create(entity(number), change())
            for number, db in enumerate((database, other) * 10)
        )
    )
    finished.set()
    await watching
    assert [generation for generation, _ in seen] == sorted(generation for generation, _ in seen)
    assert all(rows >= generation for generation, rows in seen)
    assert await directory.generation() == 20


@pytest.mark.anyio
async def test_announcements_name_what_changed(directory: SqlDirectory, database: Database) -> None:
    heard: list[tuple[str, object]] = []

    class Listening:
        dialect = database.dialect

        async def run(self, work: Any, *, write: bool = True) -> Any:
            return await database.run(lambda session: work(Overheard(session)), write=write)

    class Overheard:
        def __init__(self, session: Session) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def notify(self, topic: str, payload: str) -> None:
            heard.append((topic, json.loads(payload)))
            self._session.notify(topic, payload)

    await SqlDirectory(Listening()).create(entity(1), change())
    assert heard == [("keys", {"kind": "key", "id": "key_1", "generation": 1})]
