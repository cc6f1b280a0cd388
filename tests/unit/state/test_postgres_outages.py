"""A server of PostgreSQL that is stopped, killed or stands still while it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.postgres import PostgresDatabase
from routeiq.state.postgres_migrate import migrate_postgres
from tests.support.postgres import PostgresServer, own_server

CLOCK = SystemClock()
PUT = "INSERT INTO routeiq_documents VALUES (:name, 1, NULL, 0.0, '')"


def made(url: str, **options: object) -> tuple[PostgresDatabase, Link]:
    link = Link("database", CLOCK)
    return PostgresDatabase(url, link=link, clock=CLOCK, **options), link  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_server() as made:
        migrate_postgres(made.url, CLOCK)
        yield made


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_under_use_loses_nothing(server: PostgresServer, how: str) -> None:
    database, link = made(server.url, timeout_s=2)
    await database.start()
    watch = asyncio.create_task(link.run(database.ping))
    acknowledged: list[str] = []
    failed = 0

    async def write(worker: int) -> None:
        nonlocal failed
        for number in range(100_000):
            name = f"{how}-{worker}-{number}"
            try:
                await database.run(lambda s, name=name: s.count(PUT, {"name": name}))  # type: ignore[misc]
                acknowledged.append(name)
            except StoreUnavailable:
                failed += 1
                await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write(worker)) for worker in range(4)]
    await until(lambda: len(acknowledged) > 20)
    await asyncio.to_thread(getattr(server, how))
    await until(lambda: link.state == "down")
    await asyncio.to_thread(server.start)
    back = len(acknowledged)
    await until(lambda: len(acknowledged) > back + 20)
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    rows = await database.run(lambda s: s.rows("SELECT name FROM routeiq_documents"))
    assert set(acknowledged) <= {name for (name,) in rows}
    assert link.state == "up"
    assert min(failed, link.outages) > 0
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await database.close()


@pytest.mark.anyio
async def test_a_server_that_stands_still_is_given_up(server: PostgresServer) -> None:
    database, link = made(server.url, timeout_s=0.4, pool_size=2)
    await database.start()
    server.freeze()
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="no answer within"):
                await database.run(lambda session: session.row("SELECT 1"))
        assert link.state == "down"
    finally:
        server.thaw()
    back = False
    async with asyncio.timeout(20):
        while not back:
            try:
                await database.ping()
                link.worked()
                await database.run(lambda session: session.row("SELECT 1"))
                back = True
            except (StoreUnavailable, TimeoutError, psycopg.Error) as error:
                link.failed(error)
                await asyncio.sleep(0.05)
    await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
