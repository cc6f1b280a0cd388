from __future__ import annotations

import json
from typing import Any

import pytest

from routeiq.access.administration import Acting, Administration
from routeiq.access.authentication import Authenticator
from routeiq.access.declared import Declared
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper
from routeiq.access.limits import Limiter
from routeiq.access.limits.subjects import Subjects
from routeiq.access.principal import Principal
from routeiq.config.access import Access, EntitySettings
from routeiq.exceptions import (
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StateUnavailable,
    StoreUnavailable,
)
from routeiq.gateway.asgi import Message
from routeiq.gateway.usage import BASE, UsageApi
from routeiq.state.memory.limits import MemoryLimits
from routeiq.types import JsonObject
from tests.support.clock import FakeClock
from tests.support.directory import FakeDirectory, FakeDocuments

pytestmark = pytest.mark.anyio
ADMIN = Acting(principal=Principal(alias="master", admin=True), request_id="r")
RATES = {"limits": {"requests_per_minute": 60, "tokens_per_minute": 1000}}
BUDGETS = {"budgets": [{"usd": 2.0, "per": "month"}], "limits": {"concurrent_requests": 3}}
DECLARED: dict[str, Any] = {
    "keys": {
        "bot": {"key": "declared-bot-secret", "user": "ann", **RATES},
        "reader": {"key": "declared-reader-secret", "permissions": ["limits.read"]},
    },
    "users": {"ann": {"team": "research", "limits": {"requests_per_minute": 90}}},
    "teams": {"research": BUDGETS},
}


class Fragile(MemoryLimits):
    down = False

    async def reserve(self, *args: Any) -> Any:
        if self.down:
            raise StoreUnavailable("down")
        return await super().reserve(*args)


class World:
    """The routes over a directory and limits in memory."""

    def __init__(self, clock: FakeClock) -> None:
        self.store = Fragile(clock)
        self.limiter = Limiter(limits=self.store, spending=None, clock=clock, worker="w")
        directory = FakeDirectory()
        pepper = Pepper(FakeDocuments(), setting="a setting for the tests")
        declared = Declared(Access.model_validate(DECLARED))
        self.authenticator = Authenticator(
            master_key="sk-master",
            declared=declared,
            keys=KeyCache(directory, pepper=pepper, clock=clock),
            clock=clock,
        )
        self.administration = Administration(
            directory, pepper=pepper, clock=clock, announce=self.announce, declared=declared
        )
        subjects = Subjects(self.administration, directory, defaults=EntitySettings())
        api = UsageApi(authenticator=self.authenticator, limiter=self.limiter, subjects=subjects)
        self.routes = api.routes()

    async def announce(self, topic: str, payload: JsonObject) -> None:
        """Nobody listens."""

    async def get(self, path: str, *, key: str = "sk-master") -> Any:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {
            "headers": [(b"authorization", f"Bearer {key}".encode())],
            "query_string": query.encode(),
        }
        await self.routes[BASE + path]["GET"](scope, receive, send)
        assert sent[0]["status"] == 200
        return json.loads(sent[1]["body"])

    async def spend(self, key: str, *, tokens: int, cost: float) -> None:
        principal = await self.authenticator.authenticate([(b"x-api-key", key.encode())])
        ticket = await self.limiter.admit_slowly(principal, tokens=tokens, cost_usd=cost)
        self.limiter.settle(ticket, tokens=tokens, cost_usd=cost, answered=True)
        await self.limiter.flush()


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


async def test_limits_and_budgets_of_every_level(world: World) -> None:
    await world.spend("declared-bot-secret", tokens=400, cost=0.5)
    limits = (await world.get("/limits?key=bot"))["data"]
    assert [(one["level"], one["limits"], one["limit"], one["used"]) for one in limits] == [
        ("key", "requests", 60, 1),
        ("key", "tokens", 1000, 400),
        ("user", "requests", 90, 1),
        ("team", "concurrent", 3, 0),
    ]
    assert [one["remaining"] for one in limits] == [59, 600, 89, 3]
    assert all(0 < one["reset_s"] <= 120 for one in limits[:3])
    assert limits[3]["reset_s"] is None
    assert (await world.get("/limits?user=config:ann"))["data"] == limits[2:]
    budgets = (await world.get("/budgets?team=research"))["data"]
    assert budgets == [
        {
            "level": "team",
            "id": "config:research",
            "limits": "spend_usd",
            "unit": "usd",
            "per": "month",
            "limit": 2.0,
            "used": 0.5,
            "remaining": 1.5,
            "reset_s": budgets[0]["reset_s"],
            "resets_at": 1_801_440_000.0,
            "fail": "open",
        }
    ]


async def test_looking_takes_nothing(world: World) -> None:
    for _ in range(3):
        found = (await world.get("/limits?key=bot"))["data"]
    assert [one["used"] for one in found] == [0, 0, 0, 0]


async def test_stored_ones_by_id_and_alias(world: World) -> None:
    make = world.administration.create
    team, _ = await make("team", {"alias": "sales", "settings": BUDGETS}, ADMIN)
    user, _ = await make("user", {"alias": "bob", "team": team.id, "settings": RATES}, ADMIN)
    settings = {"budgets": [{"tokens": 500, "per": "total"}]}
    key, secret = await make("key", {"alias": "app", "user": user.id, "settings": settings}, ADMIN)
    assert secret is not None
    await world.spend(secret, tokens=100, cost=0.25)
    for name in (key.id, "app"):
        found = (await world.get(f"/budgets?key={name}"))["data"]
        assert [(one["level"], one["used"], one["resets_at"]) for one in found] == [
            ("key", 100, None),
            ("team", 0.25, 1_801_440_000.0),
        ]
    assert [one["used"] for one in (await world.get("/limits?user=bob"))["data"]] == [1, 100, 0]
    assert len((await world.get(f"/budgets?team={team.id}"))["data"]) == 1


async def test_a_key_sees_its_own_and_needs_no_right_for_it(world: World) -> None:
    await world.spend("declared-bot-secret", tokens=400, cost=0.5)
    own = await world.get("/usage", key="declared-bot-secret")
    assert own["key"] == "bot"
    assert [one["limits"] for one in own["limits"]] == [
        "requests",
        "tokens",
        "requests",
        "concurrent",
    ]
    assert [one["used"] for one in own["budgets"]] == [0.5]
    assert await world.get("/usage") == {"key": "master", "limits": [], "budgets": []}
    with pytest.raises(InvalidApiKey):
        await world.get("/usage", key="sk-wrong")


async def test_rights(world: World) -> None:
    await world.get("/limits?key=bot", key="declared-reader-secret")
    with pytest.raises(PermissionDenied, match=r"budgets\.read"):
        await world.get("/budgets?key=bot", key="declared-reader-secret")
    with pytest.raises(PermissionDenied, match=r"limits\.read"):
        await world.get("/limits?key=bot", key="declared-bot-secret")


@pytest.mark.parametrize("query", ["", "?key=", "?key=bot&user=ann", "?key=a&key=b", "?who=bot"])
async def test_exactly_one_is_asked_for(world: World, query: str) -> None:
    with pytest.raises(InvalidRequest, match="exactly one"):
        await world.get(f"/limits{query}")


async def test_who_is_not_there(world: World) -> None:
    for kind in ("key", "user", "team"):
        with pytest.raises(NotFound):
            await world.get(f"/limits?{kind}=nobody")


async def test_a_store_that_is_down_is_said(world: World) -> None:
    world.store.down = True
    with pytest.raises(StateUnavailable):
        await world.get("/limits?key=bot")
