"""The stores on Redis pass the public contract suite: on one server, on a cluster, under a sentinel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect
from routeiq.state.redis.board import RedisBoard
from routeiq.state.redis.connection import RedisConnection
from routeiq.state.redis.conversations import RedisConversations
from routeiq.state.redis.counters import RedisCounters
from routeiq.state.redis.events import RedisEvents
from routeiq.state.redis.leases import RedisLeases
from routeiq.state.redis.limits import RedisLimits
from routeiq.store_checks import SHARED, Connected, StoreCheck, Stores, store_checks
from tests.support.redis import (
    RedisServer,
    needs_redis,
    redis_cluster,
    redis_sentinel,
    redis_server,
)

pytestmark = [pytest.mark.anyio, needs_redis]
CHECKS = pytest.mark.parametrize(
    "check", store_checks(*SHARED), ids=lambda check: check.__name__[6:]
)
TIMEOUT_S = 30.0
"""The machine may be busy: the suite checks what is answered, not how soon."""
Place = tuple[str, Sequence[RedisServer]]


@pytest.fixture(scope="module")
def single() -> Iterator[Place]:
    with redis_server() as server:
        yield server.url, [server]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Place]:
    with redis_cluster() as servers:
        yield servers.url, servers.servers


@pytest.fixture(scope="module")
def watched() -> Iterator[Place]:
    with redis_sentinel() as servers:
        yield servers.url, servers.servers[:1]


def stores(connection: RedisConnection) -> Stores:
    events = RedisEvents(connection)
    return Stores(
        limits=RedisLimits(connection),
        counters=RedisCounters(connection),
        board=RedisBoard(connection, events),
        conversations=RedisConversations(connection),
        leases=RedisLeases(connection),
        events=events,
    )


@asynccontextmanager
async def two_workers(place: Place) -> AsyncIterator[Connected]:
    url, servers = place
    for server in servers:
        server.command("FLUSHALL")
    async with AsyncExitStack() as stack:
        both = []
        for _ in range(2):
            link = Link("redis", SystemClock())
            connection = connect(url, link=link, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
            stack.push_async_callback(connection.close)
            both.append(stores(connection))
        yield Connected(first=both[0], second=both[1])


@CHECKS
async def test_on_one_server(check: StoreCheck, single: Place) -> None:
    await check(lambda: two_workers(single))


@CHECKS
async def test_on_a_cluster(check: StoreCheck, cluster: Place) -> None:
    await check(lambda: two_workers(cluster))


@CHECKS
async def test_under_a_sentinel(check: StoreCheck, watched: Place) -> None:
    await check(lambda: two_workers(watched))
