from __future__ import annotations

import asyncio
import json

import pytest

from routeiq.exceptions import Conflict
from routeiq.state.database import Database
from routeiq.state.ledgers import SqlAudit, SqlDocuments
from routeiq.stores import Change, Document

CHANGE = Change(actor="admin", action="strategies.activate", target="strategy")


@pytest.fixture
def documents(database: Database) -> SqlDocuments:
    return SqlDocuments(database)


@pytest.mark.anyio
async def test_what_was_never_written_has_version_0(documents: SqlDocuments) -> None:
    assert await documents.read("strategy") == Document(name="strategy")
    assert await documents.all() == (0, {})
    assert await documents.generation() == 0


@pytest.mark.anyio
async def test_each_write_is_a_version_and_an_audit_row(
    documents: SqlDocuments, database: Database
) -> None:
    first = await documents.write("strategy", {"name": "knn"}, CHANGE)
    assert first == Document(
        name="strategy",
        version=1,
        body={"name": "knn"},
        updated_at=first.updated_at,
        updated_by="admin",
    )
    assert first.updated_at > 1_700_000_000
    second = await documents.write("strategy", None, CHANGE)
    assert (second.version, second.body) == (2, None)
    third = await documents.write("other", {}, CHANGE)
    assert await documents.read("strategy") == second
    assert await documents.all() == (3, {"strategy": second, "other": third})
    assert [row["action"] for row in await SqlAudit(database).latest()] == [CHANGE.action] * 3


@pytest.mark.anyio
async def test_a_write_over_another_version_is_refused(
    documents: SqlDocuments, database: Database
) -> None:
    with pytest.raises(Conflict, match="strategy has version 0 now, not 1"):
        await documents.write("strategy", {}, CHANGE, expected=1)
    await documents.write("strategy", {}, CHANGE, expected=0)
    with pytest.raises(Conflict, match="strategy has version 1 now, not 0"):
        await documents.write("strategy", {}, CHANGE, expected=0)
    await documents.write("strategy", {}, CHANGE, expected=1)
    with pytest.raises(Conflict, match="strategy has version 2 now, not 1"):
        await documents.write("strategy", {}, CHANGE, expected=1)
    assert await documents.generation() == 2
    assert len(await SqlAudit(database).latest()) == 2


@pytest.mark.anyio
async def test_of_racing_writes_exactly_one_wins(
    documents: SqlDocuments, database: Database, other: Database
) -> None:
    for version in range(5):
        answers = await asyncio.gather(
            *(
                SqlDocuments(db).write("strategy", {"by": i}, CHANGE, expected=version)
                for i, db in enumerate((database, other) * 2)
            ),
            return_exceptions=True,
        )
        won = [answer for answer in answers if isinstance(answer, Document)]
        assert len(won) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 3
        assert await documents.read("strategy") == won[0]
    assert await documents.generation() == 5


@pytest.mark.anyio
async def test_racing_writes_that_expect_nothing_all_count(
    documents: SqlDocuments, database: Database, other: Database
) -> None:
    written = await asyncio.gather(
        *(SqlDocuments(db).write("strategy", {}, CHANGE) for db in (database, other) * 5)
    )
    assert sorted(document.version for document in written) == list(range(1, 11))


@pytest.mark.anyio
async def test_the_generation_and_the_documents_belong_together(
    documents: SqlDocuments, database: Database, other: Database
) -> None:
    finished = asyncio.Event()

    async def watch() -> None:
        while not finished.is_set():
            generation, found = await SqlDocuments(other).all()
            assert generation == sum(document.version for document in found.values())

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(documents.write(f"{n % 3}", {"n": n}, CHANGE) for n in range(12)))
    finished.set()
    await watching


@pytest.mark.anyio
async def test_a_write_is_announced(documents: SqlDocuments, database: Database) -> None:
    await documents.write("strategy", {}, CHANGE)
    if database.dialect == "sqlite":  # the other one is heard in test_postgres.py
        events = "SELECT topic, payload FROM routeiq_events"
        rows = await database.run(lambda session: session.rows(events), write=False)
        assert [(topic, json.loads(payload)) for topic, payload in rows] == [
            ("control", {"name": "strategy", "version": 1, "generation": 1})
        ]
