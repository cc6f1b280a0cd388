"""Redis stopped, killed, paused, full and failed over: operations fail in time, nothing is counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trustme

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import SystemClock
from routeiq.state.link import Link
from routeiq.state.redis import connect
from routeiq.state.redis.connection import RedisConnection
from routeiq.state.redis.conversations import RedisConversations
from routeiq.state.redis.counters import RedisCounters
from routeiq.state.redis.events import RedisEvents
from routeiq.state.redis.leases import RedisLeases
from routeiq.state.redis.limits import RedisLimits
from routeiq.stores import Ask, Delta
from routeiq.types import JsonObject
from tests.support.redis import (
    RedisServer,
    needs_redis,
    redis_cluster,
    redis_sentinel,
    redis_server,
    wait_for,
)

pytestmark = needs_redis
ASKS = [
    Ask(bucket="rpm", kind="window", limit=10**9, amount=1, window_s=3600.0),
    Ask(bucket="usd", kind="period", limit=10**9, amount=1, keep_s=3600.0),
    Ask(bucket="conc", kind="slots", limit=10**9, amount=1),
]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@asynccontextmanager
async def connected(url: str, *, timeout_s: float = 0.25) -> AsyncIterator[RedisConnection]:
    """With its pings running, as in a worker."""
    link = Link("redis", SystemClock())
    connection = connect(url, link=link, timeout_s=timeout_s)
    pinging = asyncio.create_task(link.run(connection.ping))
    try:
        await until_up(connection)
        yield connection
    finally:
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
        await connection.close()


async def until_up(connection: RedisConnection, within_s: float = 20.0) -> float:
    """How long it took."""
    begun = time.monotonic()
    async with asyncio.timeout(within_s):
        while connection.link.state != "up":
            await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def first_event(events: RedisEvents) -> str:
    """Listen, publish, hear."""
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_event(topic: str, payload: JsonObject) -> None:
        heard.set_result(topic)

    async def on_gap() -> None:
        await events.publish("reload", {})

    listening = asyncio.create_task(events.listen(on_event, on_gap))
    try:
        async with asyncio.timeout(20):
            return await heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.anyio
async def test_a_stopped_server_fails_at_once_and_is_used_again_when_it_is_back(
    server: RedisServer,
) -> None:
    async with connected(server.url) as connection:
        limits, conversations = RedisLimits(connection), RedisConversations(connection)
        await conversations.put({"c": "d"}, 60.0)
        await limits.reserve("t", "w", ASKS)
        server.stop()
        begun = time.monotonic()
        for _ in range(200):
            with pytest.raises(StoreUnavailable):
                await limits.reserve("t", "w", ASKS)
        assert time.monotonic() - begun < 1.0
        server.start()
        assert await until_up(connection) < 5.0
        assert await conversations.get("c") == "d"
        await limits.reserve("t", "w", ASKS)
        assert await limits.usage("t", {"rpm": "window", "usd": "period"}) == {"rpm": 2, "usd": 2}


@pytest.mark.anyio
async def test_an_empty_server_is_taught_its_scripts_again(server: RedisServer) -> None:
    async with connected(server.url) as connection:
        limits = RedisLimits(connection)
        await limits.reserve("t", "w", ASKS)
        server.kill()
        server.start(empty=True)
        await asyncio.sleep(0)
        with suppress(StoreUnavailable):
            await limits.reserve("t", "w", ASKS)
        await until_up(connection)
        assert (await limits.reserve("t", "w", ASKS)).refused is None


@pytest.mark.anyio
async def test_a_paused_server_costs_three_time_outs_and_then_nothing(
    server: RedisServer,
) -> None:
    async with connected(server.url) as connection:
        limits = RedisLimits(connection)
        await limits.reserve("t", "w", ASKS)
        server.pause()
        for _ in range(3):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await limits.reserve("t", "w", ASKS)
            assert time.monotonic() - begun < 1.0
        assert connection.link.state == "down"
        begun = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await limits.reserve("t", "w", ASKS)
        assert time.monotonic() - begun < 0.2
        server.resume()
        assert await until_up(connection) < 5.0
        await limits.reserve("t", "w", ASKS)


@pytest.mark.anyio
async def test_commands_of_the_pool_fail_in_time_too(server: RedisServer) -> None:
    async with connected(server.url) as connection:
        counters = RedisCounters(connection)
        await counters.read("x")
        server.pause()
        begun = time.monotonic()
        answers = await asyncio.gather(
            *(counters.read("x") for _ in range(40)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert time.monotonic() - begun < 2.0
        server.resume()
        assert await until_up(connection) < 5.0
        assert await counters.read("x") == {}


@pytest.mark.anyio
async def test_counters_are_exact_when_batches_are_sent_again_over_kills(
    server: RedisServer,
) -> None:
    done: dict[str, int] = {}

    async def worker(name: str, counters: RedisCounters, limits: RedisLimits) -> None:
        settled = Delta(bucket="usd", kind="period", amount=3, keep_s=3600.0)
        for seq in range(1, 301):
            for send in (
                partial(counters.apply, "e", name, seq, {"n": 1, name: 2}),
                partial(limits.adjust, "t", name, seq, [settled]),
            ):
                while True:
                    try:
                        await send()
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.005)
            done[name] = seq

    async with connected(server.url) as one, connected(server.url) as two:
        tasks = [
            asyncio.create_task(worker(f"w{n}", RedisCounters(each), RedisLimits(each)))
            for n, each in enumerate((one, two, one, two))
        ]
        for target in (200, 500, 800):
            while sum(done.values()) < target:
                await asyncio.sleep(0.001)
            server.kill()
            server.start()
        await asyncio.gather(*tasks)
        assert one.link.outages + two.link.outages
        assert await RedisCounters(one).read("e") == {"n": 1200} | {f"w{n}": 600 for n in range(4)}
        assert await RedisLimits(one).usage("t", {"usd": "period"}) == {"usd": 3600}


@pytest.mark.anyio
async def test_a_full_server_refuses_writes_and_answers_reads(server: RedisServer) -> None:
    async with connected(server.url) as connection:
        limits, conversations = RedisLimits(connection), RedisConversations(connection)
        counters = RedisCounters(connection)
        await conversations.put({"c": "d"}, 60.0)
        await counters.apply("e", "w", 1, {"n": 1})
        server.client.config_set("maxmemory-policy", "noeviction")
        server.client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match="OOM"):
            await limits.reserve("t", "w", ASKS)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await conversations.put({"e": "f"}, 60.0)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await counters.apply("e", "w", 2, {"n": 1})
        assert await conversations.get("c") == "d"
        await connection.ping()
        assert connection.link.outages == 0
        server.client.config_set("maxmemory", "0")
        await counters.apply("e", "w", 2, {"n": 1})
        assert await counters.read("e") == {"n": 2}


@pytest.mark.anyio
async def test_events_are_heard_again_after_a_restart(server: RedisServer) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def on_event(topic: str, payload: JsonObject) -> None:
        heard.put_nowait(topic)

    async def on_gap() -> None:
        heard.put_nowait("gap")

    async with connected(server.url) as connection, asyncio.timeout(30):
        events = RedisEvents(connection)
        listening = asyncio.create_task(events.listen(on_event, on_gap))
        assert await heard.get() == "gap"
        server.kill()
        server.start()
        assert await heard.get() == "gap"
        await until_up(connection)
        await events.publish("reload", {})
        assert await heard.get() == "reload"
        server.pause()
        begun = time.monotonic()
        await asyncio.sleep(4.0)  # longer than the silence and the answer's time-out
        server.resume()
        assert await heard.get() == "gap"
        assert time.monotonic() - begun < 9.0
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.anyio
async def test_a_failover_leads_to_the_new_master() -> None:
    with redis_sentinel() as watched:
        async with connected(watched.url) as connection:
            limits, counters = RedisLimits(connection), RedisCounters(connection)
            await limits.reserve("t", "w", ASKS)
            await counters.apply("e", "w", 1, {"n": 1})
            await connection.run("WAIT", 1, 1000)
            old = watched.master()
            old.kill()
            async with asyncio.timeout(30):
                while True:
                    try:
                        await counters.apply("e", "w", 2, {"n": 1})
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.05)
            assert watched.master() is not old
            assert await counters.read("e") == {"n": 2}
            assert await limits.usage("t", {"rpm": "window"}) == {"rpm": 1}


@pytest.mark.anyio
async def test_a_master_that_became_a_replica_is_left() -> None:
    with redis_sentinel() as watched:
        async with connected(watched.url) as connection:
            leases = RedisLeases(connection)
            assert await leases.acquire("job", "a", 60.0)
            old = watched.master()
            wait_for(  # it refuses until it has looked at the replica
                lambda: watched.sentinel.command("SENTINEL", "FAILOVER", "main")
            )
            async with asyncio.timeout(30):
                while watched.master() is old or old.client.info("replication")["role"] == "master":
                    with suppress(StoreUnavailable):
                        await leases.acquire("job", "a", 60.0)
                    await asyncio.sleep(0.05)
                while True:
                    with suppress(StoreUnavailable):
                        if await leases.acquire("job", "a", 60.0):
                            break
                    await asyncio.sleep(0.05)


@pytest.mark.anyio
async def test_a_cluster_has_every_store_and_moved_slots_are_followed() -> None:
    with redis_cluster() as cluster:
        async with connected(cluster.url, timeout_s=1.0) as connection:
            limits, counters = RedisLimits(connection), RedisCounters(connection)
            conversations = RedisConversations(connection)
            for tenant in range(30):
                assert (await limits.reserve(f"t{tenant}", "w", ASKS)).refused is None
                await counters.apply(f"e{tenant}", "w", 1, {"n": 1})
            await conversations.put({f"c{n}": "d" for n in range(300)}, 60.0)
            assert await conversations.get("c299") == "d"
            await asyncio.gather(*(counters.read(f"e{n % 30}") for n in range(100)))
            sizes = [server.client.dbsize() for server in cluster.servers]
            assert all(sizes)
            assert await first_event(RedisEvents(connection)) == "reload"
            slot = cluster.servers[0].command("CLUSTER", "KEYSLOT", "{new}")
            cluster.move(slot)
            for _ in range(3):
                assert (await limits.reserve("new", "w", ASKS)).refused is None
            assert await limits.usage("new", {"rpm": "window"}) == {"rpm": 3}
            assert connection.link.outages == 0


@pytest.mark.anyio
async def test_a_cluster_without_a_master_is_down_and_comes_back() -> None:
    with redis_cluster() as cluster:
        async with connected(cluster.url, timeout_s=0.5) as connection:
            limits = RedisLimits(connection)
            cluster.servers[1].kill()
            async with asyncio.timeout(20):
                while connection.link.state != "down":
                    for tenant in range(10):
                        with suppress(StoreUnavailable):
                            await limits.reserve(f"t{tenant}", "w", ASKS)
                    await asyncio.sleep(0.05)
            cluster.servers[1].start()
            await until_up(connection)
            for tenant in range(10):
                async with asyncio.timeout(10):
                    while True:
                        try:
                            await limits.reserve(f"t{tenant}", "w", ASKS)
                            break
                        except StoreUnavailable:
                            await asyncio.sleep(0.05)


@pytest.mark.anyio
async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("server", "client"):
        made = ca.issue_cert("127.0.0.1")
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    options = [
        *("--tls-cert-file", str(tmp_path / "server.pem")),
        *("--tls-key-file", str(tmp_path / "server.key")),
        *("--tls-ca-cert-file", str(tmp_path / "ca.pem")),
    ]
    with redis_server(*options, tls=True, start=False) as server:
        server.start(wait=False)
        for _ in range(200):
            assert server.process is not None
            if server.process.poll() is not None:
                server.process = None
                pytest.skip("this redis-server has no TLS")
            if server.listening():
                break
            await asyncio.sleep(0.02)
        url = server.url.replace("redis:", "rediss:") + f"?ssl_ca_certs={tmp_path}/ca.pem"
        certified = f"{url}&ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
        async with connected(certified, timeout_s=5.0) as connection:
            counters = RedisCounters(connection)
            await counters.apply("e", "w", 1, {"n": 1})
            assert await counters.read("e") == {"n": 1}
            assert await first_event(RedisEvents(connection)) == "reload"
        for wrong in (url, server.url.replace("redis:", "rediss:")):
            stranger = connect(wrong, link=Link("redis", SystemClock()))
            with pytest.raises(StoreUnavailable):
                await stranger.hot("k", "GET", "k")
            await stranger.close()
