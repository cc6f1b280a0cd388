from __future__ import annotations

import asyncio

import pytest

from routeiq.access.key_cache import MAX_CHANGES, RETRY_S, UNKNOWN, KeyCache
from routeiq.access.keys import Pepper, new_secret
from routeiq.exceptions import StateUnavailable
from routeiq.stores import EntityKind
from tests.support.clock import FakeClock
from tests.support.directory import FakeDocuments
from tests.unit.access.cache_world import PEPPER, TOKEN, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


async def test_remembered_keys_outlive_the_store_for_the_grace_only(world: World) -> None:
    await world.ask()
    world.directory.down = True
    for _ in range(9):
        world.clock.advance(60.0)
        assert (await world.ask()).principal.key_id == "key-1"
        await world.settle()
    world.clock.advance(60.0)
    with pytest.raises(StateUnavailable) as caught:
        await world.ask()
    assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
    world.directory.down = False
    assert (await world.ask()).principal.key_id == "key-1"


async def test_a_store_that_is_down_is_not_asked_by_every_request(world: World) -> None:
    await world.ask()
    world.directory.down = True
    world.clock.advance(60.0)
    for _ in range(20):
        assert world.cache.known(TOKEN) is not None
        await world.settle()
    assert world.finds == 2
    world.clock.advance(RETRY_S)
    assert world.cache.known(TOKEN) is not None
    await world.settle()
    assert world.finds == 3


async def test_doubt_honours_remembered_keys_while_the_store_is_down(world: World) -> None:
    await world.ask()
    world.directory.down = True
    world.cache.forget_all()
    assert (await world.ask()).principal.key_id == "key-1"
    world.directory.down = False
    assert world.cache.known(TOKEN) is None  # honoured, and still in doubt
    world.directory.down = True
    world.clock.advance(600.0)
    with pytest.raises(StateUnavailable):
        await world.ask()


async def test_a_known_change_is_not_passed_over_while_the_store_is_down(world: World) -> None:
    await world.ask()
    world.cache.forget("team", "team-1")
    world.directory.down = True
    with pytest.raises(StateUnavailable):
        await world.ask()
    world.cache.forget_all()
    with pytest.raises(StateUnavailable):
        await world.ask()


async def test_unseen_keys_fail_closed_while_the_store_is_down(world: World) -> None:
    world.directory.down = True
    found = await asyncio.gather(*(world.ask() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, StateUnavailable) for one in found)


async def test_without_grace_every_request_asks(clock: FakeClock) -> None:
    world = World(clock, grace_s=0.0)
    await world.ask()
    await world.ask()
    assert world.finds == 2
    world.directory.down = True
    with pytest.raises(StateUnavailable):
        await world.ask()


async def test_the_pepper_may_be_unknown_at_first(world: World) -> None:
    documents = FakeDocuments()
    documents.down = True
    cache = KeyCache(world.directory, pepper=Pepper(documents), clock=world.clock)
    assert cache.known(TOKEN) is None
    with pytest.raises(StateUnavailable):
        await cache.find(TOKEN)
    documents.down = False
    assert await cache.find(TOKEN) is UNKNOWN  # sealed with another pepper


async def test_the_least_recently_used_is_forgotten(clock: FakeClock) -> None:
    world = World(clock, size=2)
    assert PEPPER.value is not None
    tokens = [new_secret(PEPPER.value).encode() for _ in range(3)]
    for n, token in enumerate(tokens):
        world.add_key(f"key-{n + 10}", token)
    await world.ask(tokens[0])
    await world.ask(tokens[1])
    assert world.cache.known(tokens[0]) is not None
    await world.ask(tokens[2])
    assert len(world.cache) == 2
    assert world.cache.known(tokens[1]) is None
    assert world.cache.known(tokens[0]) is not None


async def test_many_changes_are_forgotten_safely(world: World) -> None:
    await world.ask()
    world.cache.forget("key", "key-1")
    for n in range(MAX_CHANGES):
        world.cache.forget("key", f"other-{n}")
    assert world.cache.known(TOKEN) is None
    world.directory.down = True
    with pytest.raises(StateUnavailable):
        await world.ask()


@pytest.mark.parametrize("gone", [("user", "user-1"), ("team", "team-1")])
async def test_a_key_whose_user_or_team_is_gone_is_refused(
    world: World, gone: tuple[EntityKind, str]
) -> None:
    del world.directory.entities[gone]
    assert await world.ask() is UNKNOWN


async def test_settings_that_cannot_be_read_refuse_until_they_can(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.change("team", "team-1", body={"from_a_newer_version": 1})
    assert "cannot be read" in ((await world.ask()).refusal or "")
    assert "cannot be read" in caplog.text
    await world.change("team", "team-1", body={})
    world.cache.forget("team", "team-1")
    assert (await world.ask()).refusal is None


async def test_a_deleted_key_is_unknown_when_verified(world: World) -> None:
    await world.ask()
    del world.directory.entities["key", "key-1"]
    world.cache.forget("key", "key-1")
    assert await world.ask() is UNKNOWN
    assert len(world.cache) == 0
