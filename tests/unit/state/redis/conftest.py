"""One server for these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect
from routeiq.state.redis.connection import RedisConnection
from tests.support.redis import BINARY, RedisServer, redis_server


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    with redis_server() as running:
        yield running


@pytest.fixture
async def connection(server: RedisServer) -> AsyncIterator[RedisConnection]:
    server.client.flushall()
    made = connect(server.url, link=Link("redis", SystemClock()), timeout_s=5.0)
    yield made
    await made.close()
