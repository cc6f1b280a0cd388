from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from routeiq.access.principal import ANONYMOUS_ADMIN, Principal
from routeiq.exceptions import PermissionDenied, StoreUnavailable
from routeiq.gateway.asgi import Message
from routeiq.gateway.jobs import Jobs
from routeiq.gateway.sync import ALIAS, PATH, SyncApi
from routeiq.ports import Header
from routeiq.stores import Lease
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


class Leases:
    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.up = True

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        if self.lease is None:
            self.lease = Lease(name=name, holder=holder, token=1, left_s=ttl_s)
        return self.lease if self.lease.holder == holder else None

    async def release(self, name: str, holder: str) -> None:
        self.lease = None

    async def read(self, name: str) -> Lease | None:
        if not self.up:
            raise StoreUnavailable("no route")
        return self.lease


class Guard:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.allows = True

    async def require(self, headers: Sequence[Header], permission: str) -> Principal:
        self.asked.append(permission)
        if not self.allows:
            raise PermissionDenied("no")
        return ANONYMOUS_ADMIN


class Setting:
    def __init__(self, clock: FakeClock) -> None:
        self.leases, self.guard = Leases(), Guard()
        self.sync: dict[str, Any] | None = {"uri": "s3://x", "leader": True, "skipped": 3}
        self.jobs = Jobs(leases=self.leases, clock=clock, worker="gateway-1", lease_s=30.0)
        self.api = SyncApi(
            authenticator=self.guard,
            jobs=self.jobs,
            activation_status=lambda: {"sync": self.sync},
            clock=clock,
        )

    async def ask(self, path: str = PATH) -> Any:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.api.routes()[path]["GET"]({"headers": []}, receive, send)
        assert sent[0]["status"] == 200
        return json.loads(sent[1]["body"])

    async def begin(self) -> asyncio.Task[None]:
        async def work(lease: Lease) -> None:
            await asyncio.sleep(0)

        self.jobs.add("artifacts", work, 60.0)
        task = asyncio.create_task(self.jobs.run())
        for _ in range(10):
            await asyncio.sleep(0)
        return task


@pytest.fixture
def setting(clock: FakeClock) -> Setting:
    return Setting(clock)


async def test_the_leader_under_both_names(setting: Setting) -> None:
    task = await setting.begin()
    answer = await setting.ask()
    assert answer == await setting.ask(ALIAS)
    assert answer["enabled"] is answer["running"] is True
    assert answer["leader_election"] == {
        "enabled": True,
        "is_leader": True,
        "holder_id": "gateway-1",
        "lease_expires_at": "2027-01-15T08:00:30Z",
        "skipped_sync_count": 0,
        "store_reachable": True,
    }
    assert answer["jobs"]["artifacts"]["runs"] == 1
    assert answer["sync"]["uri"] == "s3://x"
    assert set(setting.guard.asked) == {"sync.read"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_another_leads(setting: Setting) -> None:
    setting.leases.lease = Lease(name="artifacts", holder="gateway-2", token=7, left_s=12.0)
    task = await setting.begin()
    election = (await setting.ask())["leader_election"]
    assert election["is_leader"] is False
    assert election["holder_id"] == "gateway-2"
    assert election["skipped_sync_count"] == 1
    setting.leases.up = False
    election = (await setting.ask())["leader_election"]
    assert election["holder_id"] is election["lease_expires_at"] is None
    assert election["store_reachable"] is False
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_lease_for_it(setting: Setting) -> None:
    election = (await setting.ask())["leader_election"]
    assert (election["enabled"], election["is_leader"]) == (False, True)
    assert election["skipped_sync_count"] == 3
    setting.sync = None
    answer = await setting.ask()
    assert answer["enabled"] is answer["running"] is False
    assert answer["leader_election"]["is_leader"] is False


async def test_who_may_not_gets_nothing(setting: Setting) -> None:
    setting.guard.allows = False
    with pytest.raises(PermissionDenied):
        await setting.ask()
