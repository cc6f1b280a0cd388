"""Counters, board, conversations, leases: what is particular to Redis."""

from __future__ import annotations

import asyncio

import pytest

from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect, keys
from routeiq.state.redis.board import RedisBoard
from routeiq.state.redis.connection import RedisConnection
from routeiq.state.redis.conversations import RedisConversations
from routeiq.state.redis.counters import RedisCounters
from routeiq.state.redis.leases import RedisLeases
from routeiq.stores import Notice
from tests.support.redis import RedisServer


@pytest.mark.anyio
async def test_counters_count_each_batch_once_over_two_connections(
    connection: RedisConnection, server: RedisServer
) -> None:
    second = connect(server.url, link=Link("redis", SystemClock()), timeout_s=5.0)
    both = [RedisCounters(connection), RedisCounters(second)]
    await asyncio.gather(
        *(
            both[sending].apply("e", f"w{worker}", seq, {"a": 1, "b": -2})
            for seq in range(1, 51)
            for worker in range(2)
            for sending in range(2)
        )
    )
    assert await both[0].read("e") == {"a": 100, "b": -200}
    assert server.client.ttl(keys.counters("e")) == -1
    assert server.client.ttl(keys.counters_seq("e", "w0")) > 0
    await second.close()


@pytest.mark.anyio
async def test_a_late_batch_does_not_bring_a_deleted_group_back(
    connection: RedisConnection,
) -> None:
    counters = RedisCounters(connection)
    await counters.apply("e", "w", 1, {"a": 1})
    await counters.delete("e")
    await counters.apply("e", "w", 1, {"a": 1})
    assert await counters.read("e") == {}


@pytest.mark.anyio
async def test_counters_are_exact_beyond_floats(connection: RedisConnection) -> None:
    counters = RedisCounters(connection)
    await counters.apply("e", "w", 1, {"a": 2**53 + 1})
    await counters.apply("e", "w", 2, {"a": 1})
    assert await counters.read("e") == {"a": 2**53 + 2}


@pytest.mark.anyio
async def test_an_open_breaker_stays_on_the_board_for_its_probe(
    connection: RedisConnection, server: RedisServer
) -> None:
    board = RedisBoard(connection)
    await board.open(Notice(id="a", left_s=0.0, worker="w", reason="ünavailable"))
    await board.open(Notice(id="b", left_s=60.0, worker="w"))
    first, second = await board.all()
    assert (first.id, first.left_s, first.reason) == ("a", 0.0, "ünavailable")
    assert 59 < second.left_s <= 60
    assert all(server.client.ttl(key) > 0 for key in server.client.keys("*"))
    await board.close("a", "w")
    assert [notice.id for notice in await board.all()] == ["b"]


@pytest.mark.anyio
async def test_a_breaker_that_nobody_closed_leaves_the_list(
    connection: RedisConnection, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = RedisBoard(connection)
    await board.open(Notice(id="a", left_s=60.0, worker="w"))
    monkeypatch.setattr(keys, "BOARD_S", 0)
    await board.open(Notice(id="b", left_s=0.01, worker="w"))
    await asyncio.sleep(0.03)
    assert [notice.id for notice in await board.all()] == ["a"]
    assert server.command("ZCARD", keys.BOARD) == 1


@pytest.mark.anyio
async def test_one_probe_for_the_fleet_until_it_opens_again(connection: RedisConnection) -> None:
    board = RedisBoard(connection)
    claims = await asyncio.gather(*(board.claim_probe("a", f"w{n}", 60.0) for n in range(10)))
    assert sum(claims) == 1
    await board.open(Notice(id="a", left_s=1.0, worker="w"))
    assert not await board.claim_probe("a", "w2", 60.0)  # the news may not have reached everybody
    await asyncio.sleep(0.55)
    assert await board.claim_probe("a", "w2", 60.0)


@pytest.mark.anyio
async def test_conversations_expire_by_themselves(
    connection: RedisConnection, server: RedisServer
) -> None:
    conversations = RedisConversations(connection)
    await conversations.put({f"c{n}": f"d{n}" for n in range(200)}, 60.0)
    assert await conversations.get("c7") == "d7"
    assert 0 < server.client.ttl(keys.affinity("c199")) <= 60
    await conversations.delete(["c7", "gone"])
    assert await conversations.get("c7") is None
    await conversations.put({"short": "d"}, 0.02)
    await asyncio.sleep(0.05)
    assert await conversations.get("short") is None
    assert await conversations.prune() == 0


@pytest.mark.anyio
async def test_a_token_grows_even_where_redis_lost_the_last_one(
    connection: RedisConnection, server: RedisServer
) -> None:
    leases = RedisLeases(connection)
    first = await leases.acquire("job", "a", 60.0)
    assert await leases.acquire("job", "b", 60.0) is None
    server.client.flushall()
    await asyncio.sleep(0.002)
    second = await leases.acquire("job", "b", 60.0)
    assert first is not None
    assert second is not None
    assert second.token > first.token
    renewed = await leases.acquire("job", "b", 60.0)
    assert renewed is not None
    assert renewed.token == second.token
    await leases.release("job", "a")
    held = await leases.read("job")
    assert held is not None
    assert (held.holder, held.token) == ("b", second.token)
    await leases.release("job", "b")
    assert await leases.read("job") is None
