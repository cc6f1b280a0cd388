from __future__ import annotations

import asyncio

import pytest

from routeiq.access.key_cache import UNKNOWN, UNKNOWN_S
from routeiq.access.keys import new_secret
from routeiq.config.access import EntitySettings
from routeiq.stores import EntityKind
from tests.support.clock import FakeClock
from tests.unit.access.cache_world import PEPPER, TOKEN, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


async def test_a_key_is_asked_for_once(world: World) -> None:
    assert world.cache.known(TOKEN) is None
    first = await world.ask()
    assert (first.principal.key_id, first.principal.tenant) == ("key-1", "team:team-1")
    for _ in range(10):
        assert world.cache.known(TOKEN) is first
    assert world.finds == 1


async def test_no_database_sees_a_token_that_is_no_key_of_ours(world: World) -> None:
    for token in (b"sk-else", TOKEN[:-1] + b"?", TOKEN[:-1] + bytes([TOKEN[-1] ^ 1])):
        assert world.cache.known(token) is UNKNOWN
        assert await world.cache.find(token) is UNKNOWN
    assert world.finds == 0


async def test_a_key_that_does_not_exist_is_remembered_for_a_while(world: World) -> None:
    assert PEPPER.value is not None
    token = new_secret(PEPPER.value).encode()
    assert await world.ask(token) is UNKNOWN
    assert world.cache.known(token) is UNKNOWN
    assert world.finds == 1
    world.clock.advance(UNKNOWN_S)
    assert world.cache.known(token) is None
    world.add_key("key-2", token)
    assert (await world.ask(token)).principal.key_id == "key-2"


async def test_a_new_key_is_asked_for_at_once(world: World) -> None:
    assert PEPPER.value is not None
    token = new_secret(PEPPER.value).encode()
    assert await world.ask(token) is UNKNOWN
    world.add_key("key-2", token)
    world.cache.forget("key", "key-2")
    assert (await world.ask(token)).principal.key_id == "key-2"


async def test_misses_at_the_same_time_share_one_look_up(world: World) -> None:
    found = await asyncio.gather(*(world.ask() for _ in range(50)))
    assert len({id(one) for one in found}) == 1
    assert world.finds == 1


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(world: World) -> None:
    world.directory.gate = asyncio.Event()
    callers = [asyncio.ensure_future(world.ask()) for _ in range(3)]
    await world.directory.waiting.wait()
    callers[0].cancel()
    await asyncio.sleep(0)
    world.directory.gate.set()
    found = await asyncio.gather(*callers[1:])
    assert [one.principal.key_id for one in found] == ["key-1", "key-1"]
    assert world.finds == 1


@pytest.mark.parametrize(("kind", "id"), [("key", "key-1"), ("user", "user-1"), ("team", "team-1")])
async def test_a_change_at_any_level_is_seen_by_the_next_request(
    world: World, kind: EntityKind, id: str
) -> None:
    await world.ask()
    await world.change(kind, id, body={"disabled": True})
    world.cache.forget(kind, id)
    assert world.cache.known(TOKEN) is None
    assert "disabled" in ((await world.ask()).refusal or "")


async def test_a_change_elsewhere_costs_no_look_up(world: World) -> None:
    await world.ask()
    for kind, id in (("key", "key-2"), ("team", "team-2"), ("user", "key-1")):
        world.cache.forget(kind, id)  # type: ignore[arg-type]
    assert world.cache.known(TOKEN) is not None
    assert world.finds == 1


async def test_a_look_up_that_a_revocation_overtook_brings_nothing_back(world: World) -> None:
    world.directory.gate = asyncio.Event()
    early = asyncio.ensure_future(world.ask())
    await world.directory.waiting.wait()  # it has read the key, as it was
    await world.revoke()
    world.cache.forget("key", "key-1")
    late = asyncio.ensure_future(world.ask())  # must not share the look-up that began before
    await asyncio.sleep(0)
    world.directory.gate.set()
    await early
    assert (await late).refusal == "This API key was revoked."
    assert (await world.ask()).refusal == "This API key was revoked."


async def test_an_overtaken_look_up_alone_is_not_believed_later(world: World) -> None:
    world.directory.gate = asyncio.Event()
    early = asyncio.ensure_future(world.ask())
    await world.directory.waiting.wait()
    await world.revoke()
    world.cache.forget("key", "key-1")
    world.directory.gate.set()
    await early
    assert world.cache.known(TOKEN) is None
    assert (await world.ask()).refusal == "This API key was revoked."


async def test_an_old_look_up_that_ends_last_does_not_replace_a_new_one(world: World) -> None:
    gate = world.directory.gate = asyncio.Event()
    early = asyncio.ensure_future(world.ask())
    await world.directory.waiting.wait()
    await world.revoke()
    world.cache.forget("key", "key-1")
    world.directory.gate = None
    assert (await world.ask()).refusal == "This API key was revoked."
    gate.set()
    await early
    known = world.cache.known(TOKEN)
    assert known is not None
    assert known.refusal == "This API key was revoked."


async def test_after_a_gap_everything_is_verified_before_it_is_used(world: World) -> None:
    await world.ask()
    await world.revoke()
    world.cache.forget_all()
    assert world.cache.known(TOKEN) is None
    assert (await world.ask()).refusal == "This API key was revoked."


async def test_a_generation_that_nobody_announced_casts_doubt(world: World) -> None:
    await world.cache.refresh(await world.directory.generation())
    await world.ask()
    await world.cache.refresh(await world.directory.generation())
    assert world.cache.known(TOKEN) is not None
    await world.revoke()
    await world.cache.refresh(await world.directory.generation())
    assert world.cache.known(TOKEN) is None
    assert (await world.ask()).refusal == "This API key was revoked."


@pytest.mark.parametrize(
    ("heard", "now", "doubt"),
    [
        ((), 7, False),
        ((), 8, True),
        ((8,), 8, False),
        ((8, 8), 9, True),
        ((9, 8), 9, False),
        ((7, 9), 9, True),  # 7 was late: it says nothing about 8
        ((8, 9, 10), 9, False),
        ((None, 9), 9, True),
        ((7, 7, 6), 10**15, True),
    ],
)
async def test_only_announced_changes_cast_no_doubt(
    world: World, heard: tuple[int | None, ...], now: int, doubt: bool
) -> None:
    await world.cache.refresh(7)
    await world.ask()
    for generation in heard:
        world.cache.forget("key", "key-9", generation)
    await world.cache.refresh(now)
    assert (world.cache.known(TOKEN) is None) == doubt


async def test_an_announcement_may_come_before_the_generation(world: World) -> None:
    await world.cache.refresh(7)
    await world.ask()
    world.cache.forget("key", "key-9", 9)
    world.cache.forget("key", "key-9", 8)
    await world.cache.refresh(8)
    await world.cache.refresh(9)
    assert world.cache.known(TOKEN) is not None
    await world.cache.refresh(10)
    assert world.cache.known(TOKEN) is None


async def test_what_was_verified_before_the_first_generation_is_in_doubt(world: World) -> None:
    await world.ask()
    await world.cache.refresh(7)
    assert world.cache.known(TOKEN) is None


async def test_a_generation_that_goes_back_is_another_database(world: World) -> None:
    await world.cache.refresh(7)
    await world.ask()
    await world.cache.refresh(3)
    assert world.cache.known(TOKEN) is None


async def test_other_defaults_hold_at_once(world: World) -> None:
    await world.ask()
    world.cache.use(EntitySettings())
    assert world.cache.known(TOKEN) is not None
    world.cache.use(EntitySettings(tags=("new",)))
    assert (await world.ask()).principal.tags == {"new"}


async def test_keys_in_use_are_verified_again_behind_a_request(world: World) -> None:
    await world.ask()
    await world.revoke()
    world.clock.advance(59.0)
    assert world.cache.known(TOKEN) is not None
    await world.settle()
    assert world.finds == 1
    world.clock.advance(1.0)
    stale = world.cache.known(TOKEN)
    assert stale is not None
    assert stale.refusal is None  # not waited for
    await world.settle()
    assert world.finds == 2
    known = world.cache.known(TOKEN)
    assert known is not None
    assert known.refusal == "This API key was revoked."
