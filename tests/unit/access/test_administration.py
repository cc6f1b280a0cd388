"""The whole of `access` over real directories: what one worker changes, another one honours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from routeiq.access.administration import Acting, Administration
from routeiq.access.authentication import Authenticator
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper
from routeiq.access.principal import Principal
from routeiq.exceptions import Conflict, InvalidApiKey
from routeiq.ports import SystemClock
from routeiq.state.ledgers.directory import SqlDirectory
from routeiq.state.ledgers.documents import SqlDocuments
from routeiq.state.link import Link
from routeiq.state.memory.audit import MemoryAudit
from routeiq.state.memory.directory import MemoryDirectory
from routeiq.state.memory.documents import MemoryDocuments
from routeiq.state.sqlite import SqliteDatabase
from routeiq.stores import Directory, Documents
from routeiq.types import JsonObject

pytestmark = pytest.mark.anyio
MASTER = Acting(principal=Principal(alias="master", admin=True))


@dataclass
class Worker:
    """One process: what it knows of keys, and its admin API."""

    cache: KeyCache
    authenticator: Authenticator
    administration: Administration

    async def caller(self, secret: str) -> Principal:
        return await self.authenticator.authenticate([(b"x-api-key", secret.encode())])


class Fleet:
    """Two workers; what one announces reaches both, unless the line is cut."""

    def __init__(self, directory: Directory, documents: Documents) -> None:
        self.cut = False
        self.directory = directory
        self.workers = [self._worker(directory, documents) for _ in range(2)]

    def _worker(self, directory: Directory, documents: Documents) -> Worker:
        clock, pepper = SystemClock(), Pepper(documents)
        cache = KeyCache(directory, pepper=pepper, clock=clock)
        return Worker(
            cache=cache,
            authenticator=Authenticator(master_key=None, keys=cache, clock=clock),
            administration=Administration(
                directory, pepper=pepper, clock=clock, announce=self.announce, cache=cache
            ),
        )

    async def announce(self, topic: str, payload: JsonObject) -> None:
        for worker in self.workers if not self.cut else ():
            worker.cache.forget(payload["kind"], payload["id"], payload.get("generation"))

    async def reread(self) -> None:
        for worker in self.workers:
            await worker.cache.refresh(await self.directory.generation())


@pytest.fixture(params=["memory", "sqlite"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    clock = SystemClock()
    if request.param == "memory":
        audit = MemoryAudit(clock)
        yield Fleet(MemoryDirectory(clock, audit), MemoryDocuments(clock, audit))
        return
    link = Link("database", clock)
    database = SqliteDatabase(tmp_path / "routeiq.db", link=link, clock=clock, timeout_s=20)
    await database.start()
    yield Fleet(SqlDirectory(database), SqlDocuments(database))
    await database.close()


async def test_what_one_worker_changes_the_other_honours(fleet: Fleet) -> None:
    one, other = fleet.workers
    admin = one.administration
    await fleet.reread()
    team, _ = await admin.create("team", {"alias": "core"}, MASTER)
    await admin.create("user", {"alias": "eve", "team": "core"}, MASTER)
    key, secret = await admin.create("key", {"alias": "app", "user": "eve"}, MASTER)
    assert secret is not None
    callers = await asyncio.gather(one.caller(secret), other.caller(secret))
    assert {caller.tenant for caller in callers} == {f"team:{team.id}"}
    await fleet.reread()
    headers = [(b"x-api-key", secret.encode())]
    assert other.authenticator.known(headers) is not None  # all was announced: no doubt

    await admin.update("team", "core", {"settings": {"disabled": True}}, MASTER)
    assert other.authenticator.known(headers) is None
    with pytest.raises(InvalidApiKey, match="team"):
        await other.caller(secret)
    await admin.update("team", "core", {"settings": {"disabled": None}}, MASTER)

    rotated, new = await admin.rotate("app", 60.0, MASTER)
    assert rotated.id == key.id
    for good in (secret, new):
        assert (await other.caller(good)).key_id == key.id
    await admin.rotate("app", 0.0, MASTER)
    for bad in (secret, new):
        with pytest.raises(InvalidApiKey, match=r"replaced|Incorrect"):
            await other.caller(bad)
    await fleet.reread()


async def test_an_unannounced_revocation_is_found_by_the_generation(fleet: Fleet) -> None:
    one, other = fleet.workers
    _, secret = await one.administration.create("key", {"alias": "app"}, MASTER)
    assert secret is not None
    await fleet.reread()
    await other.caller(secret)
    fleet.cut = True
    await one.administration.revoke("app", MASTER)
    with pytest.raises(InvalidApiKey):
        await one.caller(secret)  # the worker that did it needs no announcement
    await fleet.reread()
    with pytest.raises(InvalidApiKey, match="revoked"):
        await other.caller(secret)


async def test_of_racing_rotations_one_secret_is_good(fleet: Fleet) -> None:
    one, other = fleet.workers
    _, secret = await one.administration.create("key", {"alias": "app"}, MASTER)
    rotations = [worker.administration.rotate("app", 0.0, MASTER) for worker in (one, other) * 2]
    done = await asyncio.gather(*rotations, return_exceptions=True)
    secrets = [result[1] for result in done if not isinstance(result, BaseException)]
    assert secrets
    assert all(isinstance(one, Conflict | tuple) for one in done)
    good = []
    for each in (secret or "", *secrets):
        try:
            await other.caller(each)
        except InvalidApiKey:
            continue
        good.append(each)
    assert len(good) == 1
    assert good[0] in secrets
    await one.administration.delete("key", "app", MASTER)
    assert await fleet.directory.list("key") == []
