from __future__ import annotations

from dataclasses import replace

import pytest

from routeiq.state.database import Database
from routeiq.state.ledgers import SqlRoster
from routeiq.stores import Worker

WORKER = Worker(
    id="host-1-a",
    host="host",
    pid=1,
    started_at=0.0,
    seen_at=0.0,
    generation=3,
    directory=7,
    config="abc",
    version="1.0",
)


@pytest.fixture
def roster(database: Database) -> SqlRoster:
    return SqlRoster(database)


@pytest.mark.anyio
async def test_workers_are_there_until_they_leave(roster: SqlRoster) -> None:
    await roster.beat(WORKER)
    (first,) = await roster.all()
    assert first == replace(WORKER, started_at=first.started_at, seen_at=first.started_at)
    assert first.started_at > 1_700_000_000
    await roster.beat(replace(WORKER, generation=4, directory=8, config="def", version="1.1"))
    (second,) = await roster.all()
    assert (second.generation, second.directory) == (4, 8)
    assert (second.config, second.version) == ("def", "1.1")
    assert second.started_at == first.started_at
    assert second.seen_at >= first.seen_at
    await roster.beat(replace(WORKER, id="host-2-b"))
    assert [worker.id for worker in await roster.all()] == ["host-1-a", "host-2-b"]
    await roster.leave("host-1-a")
    await roster.leave("nobody")
    assert [worker.id for worker in await roster.all()] == ["host-2-b"]


@pytest.mark.anyio
async def test_silent_workers_are_left_out_and_forgotten(
    roster: SqlRoster, database: Database
) -> None:
    for id, silent_s in (("now", 0), ("minute", 60), ("hours", 7200)):
        await roster.beat(replace(WORKER, id=id))
        await database.run(
            lambda session, id=id, silent_s=silent_s: session.count(  # type: ignore[misc]
                "UPDATE routeiq_workers SET seen_at = seen_at - :silent_s WHERE id = :id",
                {"id": id, "silent_s": silent_s},
            )
        )
    assert [worker.id for worker in await roster.all()] == ["now"]
    assert [worker.id for worker in await roster.all(within_s=90)] == ["minute", "now"]
    await roster.beat(replace(WORKER, id="new"))
    ids = [worker.id for worker in await roster.all(within_s=86_400)]
    assert ids == ["minute", "new", "now"]
