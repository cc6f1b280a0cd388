from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from routeiq.exceptions import (
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    PermissionDenied,
    RequestError,
    StateUnavailable,
)
from routeiq.stores import Entity
from tests.support.clock import FakeClock
from tests.unit.gateway.key_world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


@pytest.mark.parametrize(
    ("call", "body", "says"),
    [
        ("POST /keys", {}, "`alias` must be"),
        ("POST /keys", {"alias": " a"}, "no space"),
        ("POST /keys", {"alias": "a\n"}, "printable"),
        ("POST /keys", {"alias": "a" * 129}, "at most"),
        ("POST /keys", {"alias": "master"}, "something else"),
        ("POST /keys", {"alias": "admin-1"}, "something else"),
        ("POST /keys", {"alias": "config:x"}, "something else"),
        ("POST /keys", {"alias": "sk-riq-oops"}, "something else"),
        ("POST /keys", {"alias": "a", "setings": {}}, "no field 'setings'"),
        ("POST /keys", {"alias": "a", "settings": {"model": ["x"]}}, "`settings.model`"),
        (
            "POST /keys",
            {"alias": "a", "settings": {"limits": {"requests_per_minute": 0}}},
            "`settings.limits.requests_per_minute`",
        ),
        ("POST /keys", {"alias": "a", "settings": {"permissions": ["all"]}}, "permissions"),
        ("POST /keys", {"alias": "a", "settings": {"budgets": [{}]}}, "exactly one of usd"),
        ("POST /keys", {"alias": "a", "settings": []}, "must be an object"),
        ("POST /keys", {"alias": "a", "expires": "soon"}, "is no date"),
        ("POST /keys", {"alias": "a", "expires": 30}, "write a text"),
        ("POST /keys", {"alias": "a", "expires": "2020-01-01"}, "has passed"),
        ("POST /keys", {"alias": "a", "user": "nobody"}, "No user 'nobody'"),
        ("POST /keys", {"alias": "a", "team": 7}, "`team` must be an id"),
        ("POST /keys", {"alias": "a", "user": "u", "team": "t"}, "Give `user` or `team`"),
        ("POST /teams", {"alias": "a", "team": "t"}, "no field 'team'"),
        ("POST /users", {"alias": "a", "user": "t"}, "no field 'user'"),
        ("POST /keys/app/rotate", {"grace": -1}, "0 to 2592000"),
        ("POST /keys/app/rotate", {"grace": True}, "0 to 2592000"),
        ("POST /keys/app/rotate", {"after": 1}, "Give only `grace`"),
        ("GET /keys?limit=0", None, "limit must be 1 to 1000"),
        ("GET /keys?limit=x", None, "limit must be"),
        ("GET /keys?colour=red", None, "Give only"),
        ("GET /teams?team=x", None, "Give only"),
        ("GET /users?user=x", None, "Give only"),
        ("PATCH /keys/app", [], "must be a JSON object"),
        ("PATCH /keys/app", {"alias": None}, "`alias` must be"),
    ],
)
async def test_mistakes_are_told_and_change_nothing(
    world: World, call: str, body: Any, says: str
) -> None:
    await world.key()
    before = dict(world.directory.entities)
    with pytest.raises(InvalidRequest, match=says):
        await world.ok(call, body)
    assert world.directory.entities == before


async def test_aliases_are_taken_once(world: World) -> None:
    await world.key()
    with pytest.raises(Conflict):
        await world.key()


async def test_callers_need_the_right_for_each_kind(world: World) -> None:
    assert (await world.ok("POST /keys", {"alias": "app"}, key="operations-secret"))["secret"]
    assert world.directory.changes[0].actor == "ops"
    await world.ok("GET /users", key="operations-secret")
    for call, permission in (
        ("POST /users", "users.write"),
        ("GET /teams", "teams.read"),
        ("DELETE /teams/x", "teams.write"),
    ):
        with pytest.raises(PermissionDenied, match=permission):
            await world.ok(call, {"alias": "x"}, key="operations-secret")
    with pytest.raises(PermissionDenied, match=r"keys\.read"):
        await world.ok("GET /keys", key="declared-bot-secret")
    with pytest.raises(InvalidApiKey):
        await world.ok("GET /keys", key="sk-nobody")


async def test_nobody_grants_or_takes_over_what_they_have_not(world: World) -> None:
    await world.ok("POST /teams", {"alias": "admins", "settings": {"permissions": ["*"]}})
    await world.ok("POST /users", {"alias": "root", "team": "admins"})
    await world.key("boss", user="root")
    await world.key("plain")
    refused: list[tuple[str, Any]] = [
        ("POST /keys", {"alias": "x", "settings": {"permissions": ["*"]}}),
        ("POST /keys", {"alias": "x", "settings": {"permissions": ["users.write"]}}),
        ("POST /keys", {"alias": "x", "user": "root"}),
        ("POST /keys", {"alias": "x", "team": "admins"}),
        ("PATCH /keys/plain", {"team": "admins"}),
        ("PATCH /keys/plain", {"settings": {"permissions": ["users.*"]}}),
        ("PATCH /keys/boss", {"settings": {"permissions": []}}),
        ("POST /keys/boss/rotate", {}),
        ("DELETE /keys/boss", None),
    ]
    before = dict(world.directory.entities)
    for call, body in refused:
        with pytest.raises(PermissionDenied, match="which your key has not"):
            await world.ok(call, body, key="operations-secret")
    assert world.directory.entities == before
    granted = {"alias": "x", "settings": {"permissions": ["keys.*", "users.read"]}}
    await world.ok("POST /keys", granted, key="operations-secret")
    await world.ok("POST /keys/plain/rotate", key="operations-secret")


async def test_a_change_counts_although_nobody_could_be_told(world: World) -> None:
    made = await world.key()
    assert await world.may_call(made["secret"])
    world.deaf = True
    await world.ok("POST /keys/app/revoke")
    assert not await world.may_call(made["secret"])


@pytest.mark.parametrize("call", ["GET /keys", "POST /keys", "DELETE /teams/x"])
async def test_without_a_database_the_answer_is_503(world: World, call: str) -> None:
    world.directory.down = True
    with pytest.raises(StateUnavailable) as caught:
        await world.ok(call, {"alias": "x"})
    assert isinstance(caught.value, RequestError)
    assert caught.value.retry_after_s == 1.0


async def test_settings_of_another_version_are_shown_and_not_written_over(world: World) -> None:
    made = await world.key()
    entity = world.directory.entities["key", made["id"]]
    newer = {"a_new_limit": 3}
    world.directory.entities["key", made["id"]] = replace(entity, body=newer)
    shown = await world.ok("GET /keys/app")
    assert (shown["settings"], shown["status"]) == (newer, "disabled")
    for call, body in (("PATCH /keys/app", {"alias": "b"}), ("POST /keys/app/rotate", {})):
        with pytest.raises(Conflict, match="another version"):
            await world.ok(call, body)
    assert (await world.ok("POST /keys/app/revoke"))["status"] == "revoked"
    await world.ok("DELETE /keys/app")


async def test_an_announcement_claims_no_other_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await world.key()
    update = world.directory.update

    async def between(entity: Entity, change: Any) -> Entity:
        world.directory.changes.append(change)  # somebody else's, at the same time
        return await update(entity, change)

    monkeypatch.setattr(world.directory, "update", between)
    await world.ok("POST /keys/app/revoke")
    assert world.told[-1] == ("keys", {"kind": "key", "id": made["id"]})
