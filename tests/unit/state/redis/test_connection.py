"""What the connection does with errors, cancelled callers and unknown scripts."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect
from routeiq.state.redis.connection import RedisConnection, Script
from routeiq.state.redis.conversations import RedisConversations
from tests.support.redis import RedisServer

ECHO = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.mark.anyio
async def test_a_script_is_learnt_when_the_server_does_not_know_it(
    connection: RedisConnection, server: RedisServer
) -> None:
    assert await connection.script(ECHO, ["k"], [2]) == 2
    server.client.script_flush()
    assert await connection.script(ECHO, ["k"], [3]) == 5
    before = server.client.info("commandstats")["cmdstat_eval"]["calls"]
    assert await connection.script(ECHO, ["k"], [1]) == 6
    assert server.client.info("commandstats")["cmdstat_eval"]["calls"] == before


@pytest.mark.anyio
async def test_many_commands_share_few_packets_and_one_connection(
    connection: RedisConnection, server: RedisServer
) -> None:
    await connection.ping()
    asked = await asyncio.gather(*(connection.script(ECHO, ["k"], [1]) for _ in range(200)))
    assert sorted(asked) == list(range(1, 201))
    names = [client["name"] for client in server.client.client_list()]
    assert names.count("routeiq") == 1


@pytest.mark.anyio
async def test_an_error_of_the_server_is_not_an_outage(connection: RedisConnection) -> None:
    await connection.hot("k", "SET", "k", "text")
    with pytest.raises(StoreUnavailable, match="not an integer"):
        await connection.script(ECHO, ["k"], [1])
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await connection.hot("k", "HGET", "k", "f")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await connection.run("HGETALL", "k")
    assert connection.link.state == "up"


@pytest.mark.anyio
async def test_a_mistake_of_ours_is_not_an_outage(connection: RedisConnection) -> None:
    with pytest.raises(TypeError):
        await connection.hot("k", "SET", "k", object())  # type: ignore[arg-type]
    assert await connection.hot("k", "GET", "k") is None
    assert connection.link.state == "up"


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["hot", "run"])
async def test_a_cancelled_task_does_not_leave_its_answer_to_the_next(
    connection: RedisConnection, server: RedisServer, way: str
) -> None:
    async def get(key: str) -> bytes | None:
        if way == "run":
            return await connection.run("GET", key)  # type: ignore[no-any-return]
        return await connection.hot(key, "GET", key)  # type: ignore[no-any-return]

    for number in range(10):
        await connection.hot("k", "SET", f"k{number}", number)
    await asyncio.gather(*(get("k0") for _ in range(4)))
    for round_ in range(30):
        tasks = [asyncio.ensure_future(get(f"k{number}")) for number in range(10)]
        for _ in range(round_ % 5 + 1):  # so that they are cancelled at different points
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, answer in enumerate(answers):
            if not isinstance(answer, asyncio.CancelledError):
                assert answer == str(number).encode()


@pytest.mark.anyio
async def test_refused_connections_are_down_at_once_and_no_password_is_said() -> None:
    link = Link("redis", SystemClock())
    connection = connect("redis://:hunter2@127.0.0.1:1", link=link)
    with pytest.raises(StoreUnavailable) as caught:
        await connection.hot("k", "GET", "k")
    assert "hunter2" not in str(caught.value)
    assert link.state == "down"
    with pytest.raises(StoreUnavailable):
        await connection.run("GET", "k")
    with pytest.raises(StoreUnavailable):
        await connection.ping()
    await connection.close()


@pytest.mark.anyio
async def test_a_wrong_password_is_down(server: RedisServer) -> None:
    server.client.config_set("requirepass", "right")
    try:
        link = Link("redis", SystemClock())
        wrong = connect(server.url.replace("//", "//:wrong@"), link=link, timeout_s=5.0)
        with pytest.raises(StoreUnavailable, match="WRONGPASS"):
            await wrong.hot("k", "GET", "k")
        assert link.state == "down"
        await wrong.close()
        right = connect(
            server.url.replace("//", "//:right@"), link=Link("redis", SystemClock()), timeout_s=5.0
        )
        assert await right.hot("k", "GET", "k") is None
        assert await right.run("GET", "k") is None
        await right.close()
    finally:
        server.client.config_set("requirepass", "")


@pytest.mark.anyio
async def test_a_replica_is_no_place_for_writes(
    connection: RedisConnection, server: RedisServer
) -> None:
    await connection.script(ECHO, ["k"], [1])
    server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await connection.script(ECHO, ["k"], [1])
        assert connection.link.state == "down"
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await connection.ping()
    finally:
        server.command("REPLICAOF", "NO", "ONE")
    await connection.ping()
    connection.link.worked()
    assert await connection.script(ECHO, ["k"], [1]) == 2


def test_it_works_on_uvloop(server: RedisServer) -> None:
    async def use() -> str | None:
        link = Link("redis", SystemClock())
        connection = connect(server.url, link=link, timeout_s=5.0, connect_timeout_s=5.0)
        await connection.ping()
        conversations = RedisConversations(connection)
        await conversations.put({"uv": "d"}, 60.0)
        await connection.run("GET", "x")
        answer = await conversations.get("uv")
        await connection.close()
        return answer

    assert uvloop.run(use()) == "d"
