from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.routing import affinity as module
from routeiq.routing.affinity import (
    BATCH,
    MISS_S,
    RECHECK_S,
    UNKNOWN,
    Affinity,
    conversation_key,
    response_id,
)
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
TTL_S = 1800.0


class Store:
    """Conversations with an expiry, that may go away, lose everything, and count what they are asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.kept: dict[str, tuple[str, float]] = {}
        self.up = True
        self.gets = self.largest = 0
        self.puts: list[dict[str, str]] = []
        self.hold: asyncio.Event | None = None

    async def get(self, key: str) -> str | None:
        self.gets += 1
        self._check()
        deployment, until = self.kept.get(key, ("", 0.0))
        if self.hold is not None:
            await self.hold.wait()
        return deployment if until > self.clock.now else None

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self._check()
        self.puts.append(dict(entries))
        for key, deployment in entries.items():
            self.kept[key] = (deployment, self.clock.now + ttl_s)

    async def delete(self, keys: Sequence[str]) -> None:
        raise NotImplementedError

    async def prune(self) -> int:
        raise NotImplementedError

    def of(self, key: str) -> str:
        return self.kept[key][0]

    def _check(self) -> None:
        if not self.up:
            raise StoreUnavailable("the store is unavailable")


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


def worker(store: Store, *, size: int = 1000) -> Affinity:
    return Affinity(store=store, clock=store.clock, ttl_s=TTL_S, size=size)


async def turn(one: Affinity, wanted: str, key: str = "k") -> str:
    """A turn of a conversation as the gateway does it: stay if it is known where, else go to `wanted`."""
    found = one.get(key)
    stick = await one.fetch(key) if found is UNKNOWN else found
    assert not isinstance(stick, module.Unknown)
    await one.step()
    answered = stick or wanted
    one.put(key, answered, stick)
    await one.step()
    return answered


async def test_a_conversation_stays_on_every_worker(store: Store) -> None:
    one, two = worker(store), worker(store)
    assert await turn(one, "a") == "a"
    assert await turn(two, "b") == "a"
    assert one.get("k") == two.get("k") == "a"
    assert one.get("other") is UNKNOWN


async def test_the_store_is_not_asked_again_for_a_while(store: Store) -> None:
    one = worker(store)
    for _ in range(10):
        await turn(one, "a")
        store.clock.advance(2.0)
    assert store.gets == 1
    assert len(store.puts) == 1


async def test_misses_are_remembered_briefly(store: Store) -> None:
    one = worker(store)
    assert await one.fetch("k") is None
    assert one.get("k") is None
    store.clock.advance(MISS_S)
    assert one.get("k") is UNKNOWN
    assert len(store.puts) == 0


async def test_the_ttl_slides_and_is_renewed_now_and_then(store: Store) -> None:
    one = worker(store)
    for _ in range(60):
        await turn(one, "a")
        store.clock.advance(100.0)
    assert store.kept["k"][1] - store.clock.now > 0.8 * TTL_S
    assert 25 <= len(store.puts) <= 35
    store.clock.advance(TTL_S)
    assert one.get("k") is UNKNOWN
    assert await one.fetch("k") is None


async def test_a_turn_that_was_fetched_renews_too(store: Store) -> None:
    one, two = worker(store), worker(store)
    await turn(one, "a")
    store.clock.advance(TTL_S - 1)
    assert await turn(two, "b") == "a"
    store.clock.advance(TTL_S - 1)
    assert await turn(one, "c") == "a"


async def test_a_move_is_followed_by_the_other_workers(store: Store) -> None:
    one, two = worker(store), worker(store)
    await turn(one, "a")
    await turn(two, "a")
    two.put("k", "b", "a")  # a's breaker opened
    await two.step()
    assert store.of("k") == "b"
    store.clock.advance(RECHECK_S)
    assert await turn(one, "a") == "a"  # asked in the background
    assert one.get("k") == "b"
    assert store.of("k") == "b"


async def test_workers_that_parted_meet_again(store: Store) -> None:
    one, two = worker(store), worker(store)
    await turn(one, "a")
    await turn(two, "a")
    one.put("k", "b", "a")
    two.put("k", "c", "a")
    await one.step()
    await two.step()
    chosen = []
    for _ in range(8):  # turns alternate, as a load balancer without affinity sends them
        for each in (one, two):
            store.clock.advance(10.0)
            chosen.append(await turn(each, "x"))
    assert len(set(chosen[-8:])) == 1


async def test_a_conversation_that_moved_here_during_the_look_up_stays_moved(store: Store) -> None:
    one = worker(store)
    await turn(one, "a")
    store.clock.advance(RECHECK_S)
    assert one.get("k") == "a"
    store.hold = asyncio.Event()
    looking = asyncio.create_task(one.step())
    await asyncio.sleep(0)
    one.put("k", "b", "a")
    store.hold.set()
    await looking
    assert one.get("k") == "b"
    await one.step()
    assert store.of("k") == "b"


async def test_what_changes_during_a_write_is_written_after_it(store: Store) -> None:
    one = worker(store)
    one.put("k", "a")
    store.hold = asyncio.Event()
    writing = asyncio.create_task(one.step())
    await asyncio.sleep(0)
    one.put("k", "b")
    store.hold.set()
    await writing
    await one.step()
    assert store.puts == [{"k": "a"}, {"k": "b"}]
    assert one.status()["unwritten"] == 0


async def test_writes_go_in_batches(store: Store) -> None:
    one = worker(store, size=5000)
    for number in range(BATCH + 5):
        one.put(f"k{number}", "a")
    await one.step()
    await one.step()
    assert [len(batch) for batch in store.puts] == [BATCH, 5]


async def test_the_memory_serves_while_the_store_is_lost(store: Store) -> None:
    one = worker(store)
    await turn(one, "a")
    store.up = False
    assert await one.fetch("new") is None
    for _ in range(100):
        store.clock.advance(60.0)  # longer than the TTL in all
        assert await turn(one, "b") == "a"
    assert await turn(one, "c", "new") == "c"
    assert await turn(one, "d", "new") == "c"
    assert one.status()["shared"] is False
    store.up = True
    await one.step()
    assert store.of("k") == "a"
    assert store.of("new") == "c"
    status = one.status()
    assert (status["unwritten"], status["dropped"], status["shared"]) == (0, 0, True)
    assert status["conversations"] >= 2


async def test_a_split_lasts_no_longer_than_the_outage(store: Store) -> None:
    one, two = worker(store), worker(store)
    store.up = False
    assert await turn(one, "a") == "a"
    assert await turn(two, "b") == "b"
    store.clock.advance(1.0)
    store.up = True
    await one.step()
    await two.step()
    first = await turn(one, "x")
    assert await turn(two, "y") == first == store.of("k")


async def test_a_store_that_lost_everything_is_told_again(store: Store) -> None:
    one, two = worker(store), worker(store)
    await turn(one, "a")
    await turn(one, "a", "idle")
    store.up = False
    await one.fetch("other")  # so that the outage is noticed
    await turn(one, "x")
    store.clock.advance(1.0)
    store.kept.clear()
    store.up = True
    await one.step()
    assert await turn(two, "b") == "a"  # it had a turn during the outage
    assert await turn(one, "x", "idle") == "a"  # and this one has its next here
    assert store.of("idle") == "a"


async def test_without_an_outage_a_lost_entry_is_told_again(store: Store) -> None:
    one = worker(store)
    await turn(one, "a")
    store.kept.clear()
    store.clock.advance(RECHECK_S)
    await turn(one, "b")
    assert store.of("k") == "a"


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted(store: Store) -> None:
    one = worker(store, size=50)
    store.up = False
    for number in range(80):
        one.put(f"k{number}", "a")
    await one.step()
    status = one.status()
    assert (status["unwritten"], status["dropped"]) == (50, 30)
    assert status["conversations"] <= 50
    one.put("k0", "b")
    assert one.dropped == 30


async def test_run_writes_soon_and_close_writes_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    one = worker(store, size=10_000)
    running = asyncio.create_task(one.run())
    one.put("k", "a")
    store.up = False
    await asyncio.sleep(0.05)
    store.up = True
    async with asyncio.timeout(5):
        while "k" not in store.kept:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for number in range(2 * BATCH + 1):
        one.put(f"k{number}", "b")
    await one.close()
    assert len(store.kept) == 2 * BATCH + 2


async def test_close_gives_up_on_a_lost_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = worker(store)
    one.put("k", "a")
    store.up = False
    await one.close()
    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    store.up, store.hold = True, asyncio.Event()
    await one.close()
    assert store.puts == []


async def test_a_fetch_does_not_undo_a_move(store: Store) -> None:
    one = worker(store)
    store.kept["k"] = ("old", store.clock.now + TTL_S)
    store.hold = asyncio.Event()
    asking = asyncio.create_task(one.fetch("k"))
    await asyncio.sleep(0)
    one.put("k", "new")
    store.hold.set()
    assert await asking == "new"
    assert one.get("k") == "new"


async def test_what_is_not_written_yet_is_not_asked_for(store: Store) -> None:
    one = worker(store)
    one.put("k", "a")
    assert await one.fetch("k") == "a"
    assert store.gets == 0


def test_keys_are_short_opaque_and_unambiguous() -> None:
    parts = [("t", "s", "m"), ("t", "m", "s"), ("ts", "", "m"), ("t", "", "ms"), ("t2", "s", "m")]
    keys = {conversation_key(*one) for one in parts}
    assert len(keys) == len(parts)
    assert all(len(key) <= 64 and key.isalnum() for key in keys)
    assert conversation_key("t", "s\ud800\x00", "m") == conversation_key("t", "s\ud800\x00", "m")
    assert conversation_key("1", "s", "m") != conversation_key("", "s", "1:1m")


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b'{\n  "id": "resp_67cb-_a",\n  "object": "response"', "resp_67cb-_a"),
        (b'{"object":"response","id":"resp_1"}', "resp_1"),
        (
            b"event: response.created\ndata: "
            b'{"type":"response.created","response":{"id":"resp_2","object":"response"}}\n\n',
            "resp_2",
        ),
        (b'{"previous_response_id":"resp_old","id":"resp_new"}', "resp_new"),
        (b'{"instructions":"\\"id\\":\\"resp_no\\"","id":"resp_yes"}', "resp_yes"),
        (b'{"id":"chatcmpl-1"}', None),
        (b'{"id":"resp_' + b"x" * 300 + b'"}', None),
        (b'{"id":"resp_cut', None),
        (b'{"pad":"' + b"x" * 3000 + b'","id":"resp_far"}', None),
        (b"", None),
    ],
)
def test_the_id_of_a_response(body: bytes, id: str | None) -> None:
    assert response_id(body) == id
