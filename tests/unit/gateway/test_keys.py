from __future__ import annotations

import json
from typing import Any

import pytest

from routeiq.exceptions import (
    Conflict,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
)
from routeiq.stores import Entity
from tests.support.clock import FakeClock
from tests.unit.gateway.key_world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


async def test_the_life_of_a_key(world: World) -> None:
    settings = {"limits": {"requests_per_minute": 5}, "tags": ["a"]}
    start, made = await world.send(
        "POST /keys", {"alias": "app", "settings": settings, "expires": "30d"}
    )
    assert start["status"] == 201
    assert (b"etag", b'"1"') in start["headers"]
    assert (b"cache-control", b"no-store") in start["headers"]
    assert made["settings"] == settings
    assert made["expires_at"] == "2027-02-14T08:00:00Z"
    assert made["secret"].startswith(made["prefix"])
    assert await world.may_call(made["secret"])

    shown = await world.ok(f"GET /keys/{made['id']}")
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert await world.ok("GET /keys/app") == shown
    changed = await world.ok("PATCH /keys/app", {"settings": {"tags": None}, "expires": None})
    assert changed["settings"] == {"limits": {"requests_per_minute": 5}}
    assert (changed["expires_at"], changed["version"]) == (None, 2)

    revoked = await world.ok("POST /keys/app/revoke")
    assert revoked["status"] == "revoked"
    assert not await world.may_call(made["secret"])
    assert (await world.ok("POST /keys/app/revoke"))["version"] == revoked["version"]
    gone = await world.ok("DELETE /keys/app")
    assert gone == {"id": made["id"], "deleted": True}
    with pytest.raises(NotFound):
        await world.ok("GET /keys/app")
    assert [change.action for change in world.directory.changes] == [
        "keys.create",
        "keys.update",
        "keys.revoke",
        "keys.delete",
    ]
    assert {(c.actor, c.target, c.request_id) for c in world.directory.changes} == {
        ("master", made["id"], "request-1")
    }
    assert world.told == [
        ("keys", {"kind": "key", "id": made["id"], "generation": n}) for n in (1, 2, 3, 4)
    ]


async def test_hashes_and_secrets_never_leave(world: World) -> None:
    made = await world.key()
    rotated = await world.ok("POST /keys/app/rotate", {"grace": 60})
    hashes = [entity.secret_hash for entity in world.directory.entities.values()]
    seen = json.dumps(
        [
            await world.ok("GET /keys"),
            await world.ok("GET /keys/app"),
            made,
            [(change.details, change.target) for change in world.directory.changes],
        ]
    )
    assert all(hash is not None and hash not in seen for hash in hashes)
    later = json.dumps([await world.ok("GET /keys"), world.told])
    assert made["secret"] not in later
    assert rotated["secret"] not in later
    stored = repr(world.directory.entities) + repr(world.directory.changes)
    assert made["secret"] not in stored
    assert rotated["secret"] not in stored
    assert "secret" not in {name for view in (await world.ok("GET /keys"))["data"] for name in view}
    for secret in ("operations-secret", "declared-bot-secret"):
        assert secret not in later


async def test_a_rotation_keeps_the_key_and_ends_the_old_secret(world: World) -> None:
    made = await world.key(settings={"budgets": [{"usd": 3}]})
    assert await world.may_call(made["secret"])
    new = await world.ok("POST /keys/app/rotate")
    assert (new["id"], new["settings"]) == (made["id"], made["settings"])
    assert new["prefix"] == new["secret"][:13]
    assert not await world.may_call(made["secret"])
    assert await world.may_call(new["secret"])
    principal = await world.authenticator.authenticate([(b"x-api-key", new["secret"].encode())])
    assert {rule.scope for rule in principal.rules} == {f"key:{made['id']}"}
    assert [view["alias"] for view in (await world.ok("GET /keys"))["data"]] == [
        "bot",
        "ops",
        "app",
    ]
    newest = await world.ok("POST /keys/app/rotate", {})
    assert [await world.may_call(one["secret"]) for one in (made, new, newest)] == [
        False,
        False,
        True,
    ]
    assert len(world.directory.entities) == 2  # the key, and its good secret
    await world.ok("DELETE /keys/app")
    assert world.directory.entities == {}
    assert not await world.may_call(newest["secret"])


async def test_an_old_secret_may_hold_for_a_while(world: World) -> None:
    first = await world.key()
    second = await world.ok("POST /keys/app/rotate", {"grace": 100})
    assert second["old_secret_until"] == "2027-01-15T08:01:40Z"
    assert await world.may_call(first["secret"])
    assert await world.may_call(second["secret"])
    third = await world.ok("POST /keys/app/rotate", {"grace": 50})
    secrets = [one["secret"] for one in (first, second, third)]
    assert [await world.may_call(secret) for secret in secrets] == [True, True, True]
    world.clock.advance(50)
    assert [await world.may_call(secret) for secret in secrets] == [False, False, True]
    await world.ok("POST /keys/app/revoke")
    assert not await world.may_call(third["secret"])


async def test_revoking_ends_an_old_secret_in_its_grace_too(world: World) -> None:
    first = await world.key()
    await world.ok("POST /keys/app/rotate", {"grace": 100})
    assert await world.may_call(first["secret"])
    await world.ok("POST /keys/app/revoke")
    assert not await world.may_call(first["secret"])
    with pytest.raises(Conflict, match="revoked"):
        await world.ok("POST /keys/app/rotate")


async def test_a_rotation_that_lost_a_race_leaves_the_old_secret_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await world.key()

    async def late(entity: Entity, change: Any) -> Entity:
        raise Conflict("It was changed meanwhile.")

    monkeypatch.setattr(world.directory, "update", late)
    with pytest.raises(Conflict):
        await world.ok("POST /keys/app/rotate")
    assert [id for _, id in world.directory.entities] == [first["id"]]
    assert await world.may_call(first["secret"])


async def test_a_secret_is_not_a_key_of_its_own(world: World) -> None:
    await world.key()
    await world.ok("POST /keys/app/rotate")
    (extra,) = [id for _, id in world.directory.entities if "." in id]
    for call in (f"GET /keys/{extra}", f"POST /keys/{extra}/revoke", f"DELETE /keys/{extra}"):
        with pytest.raises(NotFound):
            await world.ok(call)


async def test_users_and_teams_and_what_belongs_to_them(world: World) -> None:
    team = await world.ok("POST /teams", {"alias": "core", "settings": {"tags": ["t"]}})
    user = await world.ok("POST /users", {"alias": "eve", "team": "core"})
    assert user["team"] == team["id"]
    key = await world.key(user="eve")
    assert (key["user"], key["team"]) == (user["id"], None)
    direct = await world.key("direct", team=team["id"])
    for filter, aliases in (
        ("team=core", {"app", "direct"}),
        ("user=eve", {"app"}),
        (f"user={user['id']}&team=core", {"app"}),
        ("team=config:research", {"bot"}),
        ("user=config:ann", {"bot"}),
    ):
        found = await world.ok(f"GET /keys?{filter}")
        assert {view["alias"] for view in found["data"]} == aliases
    assert [one["alias"] for one in (await world.ok("GET /users?team=core"))["data"]] == ["eve"]

    async def tenant(made: Any) -> str:
        headers = [(b"x-api-key", made["secret"].encode())]
        return (await world.authenticator.authenticate(headers)).tenant

    assert await tenant(key) == f"team:{team['id']}"
    other = await world.ok("POST /teams", {"alias": "other"})
    await world.ok("PATCH /users/eve", {"team": "other"})
    assert await tenant(key) == f"team:{other['id']}"
    assert await tenant(direct) == f"team:{team['id']}"
    for call in ("DELETE /teams/core", "DELETE /users/eve"):
        with pytest.raises(Conflict):
            await world.ok(call)
    moved = await world.ok("PATCH /keys/direct", {"user": "eve"})
    assert (moved["user"], moved["team"]) == (user["id"], None)
    back = await world.ok("PATCH /keys/direct", {"team": "core"})
    assert (back["user"], back["team"]) == (None, team["id"])
    alone = await world.ok("PATCH /keys/direct", {"team": None})
    assert (alone["user"], alone["team"]) == (None, None)
    assert (await world.ok("PATCH /keys/app", {"team": None}))["user"] == user["id"]
    assert (await world.ok("PATCH /keys/app", {"user": None}))["user"] is None


async def test_lists_come_in_pages(world: World) -> None:
    for n in range(5):
        world.clock.advance(1)
        await world.key(f"app-{n}")
    seen: list[str] = []
    after, pages = "", 0
    while True:
        page = await world.ok(f"GET /keys?limit=3&after={after}")
        seen += [view["alias"] for view in page["data"]]
        pages += 1
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == ["bot", "ops", *(f"app-{n}" for n in range(5))]
    assert pages == 3
    assert (await world.ok("GET /keys?limit=1&after=config:bot"))["data"][0]["alias"] == "ops"


async def test_what_stands_in_the_configuration_is_shown_and_kept(world: World) -> None:
    shown = await world.ok("GET /keys/config:bot")
    assert shown == await world.ok("GET /keys/bot")
    assert (shown["source"], shown["user"], shown["status"]) == ("config", "config:ann", "active")
    assert (await world.ok("GET /users/ann"))["team"] == "config:research"
    assert [one["id"] for one in (await world.ok("GET /teams"))["data"]] == ["config:research"]
    for call in (
        "PATCH /keys/config:bot",
        "POST /keys/config:bot/revoke",
        "POST /keys/config:bot/rotate",
        "DELETE /keys/config:bot",
    ):
        with pytest.raises(Conflict, match=r"config\.yaml"):
            await world.ok(call, {"alias": "x"} if call.startswith("PATCH") else {})
    with pytest.raises(Conflict, match=r"config\.yaml"):
        await world.key("bot")
    with pytest.raises(InvalidRequest, match=r"config\.yaml"):
        await world.key(team="config:research")
    with pytest.raises(NotFound):
        await world.ok("GET /keys/config:nobody")


async def test_versions_guard_changes(world: World) -> None:
    await world.key()
    await world.ok("PATCH /keys/app", {"alias": "app2"}, if_match='"1"')
    for call in (
        "PATCH /keys/app2",
        "DELETE /keys/app2",
        "POST /keys/app2/revoke",
        "POST /keys/app2/rotate",
    ):
        with pytest.raises(PreconditionFailed, match="has version 2 now"):
            await world.ok(call, {}, if_match='"1"')
    assert (await world.ok("POST /keys/app2/revoke", if_match='W/"2"'))["version"] == 3
    with pytest.raises(InvalidRequest, match="If-Match"):
        await world.ok("DELETE /keys/app2", if_match="latest")
    await world.ok("DELETE /keys/app2", if_match="*")
