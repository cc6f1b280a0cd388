from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from routeiq.exceptions import ConfigError, Problem, StoreUnavailable
from routeiq.gateway.control import Control
from routeiq.gateway.control_api import workers_report
from routeiq.stores import Worker
from tests.support.clock import FakeClock
from tests.support.worlds import World, config_of

pytestmark = pytest.mark.anyio
ACTIVE, BREAKER = "/routeiq/v1/strategies/active", "/routeiq/v1/breakers/small-1"
APP = "application-key-secret"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> World:
    keys = {
        "app": {"key": APP},
        "reader": {"key": "reader-key-secret", "permissions": ["strategies.read", "audit.*"]},
    }
    world = World(monkeypatch, clock, config_of({"access": {"keys": keys}}))
    world.process.gateway = world.gateway
    world.process.control = Control(world.process, lambda: world.gateway.runtime)
    return world


@pytest.mark.parametrize(
    "call",
    [
        f"GET {ACTIVE}",
        f"PUT {ACTIVE}",
        f"DELETE {ACTIVE}",
        "GET /routeiq/v1/breakers",
        f"PUT {BREAKER}",
        "POST /routeiq/v1/config/reload",
        "POST /routeiq/v1/config/validate",
        "GET /routeiq/v1/workers",
        "GET /routeiq/v1/audit",
        "GET /routeiq/v1/config",
        "GET /routeiq/v1/status",
    ],
)
async def test_each_route_needs_its_permission(world: World, call: str) -> None:
    assert (await world.ask(call, {}, key="nobody")).status == 401
    refused = await world.ask(call, {}, key=APP)
    assert (refused.status, refused.json()["error"]["code"]) == (403, "permission_denied")
    reads = call in (f"GET {ACTIVE}", "GET /routeiq/v1/audit")
    got = await world.ask(call, {}, key="reader-key-secret")
    assert (got.status != 403) is reads


async def test_the_strategy_is_set_with_its_version_and_reset(world: World) -> None:
    before = await world.ask(f"GET {ACTIVE}")
    configured = before.json()["active"]
    assert (before.json()["override"], before.json()["version"]) == (None, 0)
    assert before.headers["etag"] == '"0"'
    first = await world.ask(f"PUT {ACTIVE}", {"name": "cost-aware"}, headers={"if-match": '"0"'})
    assert (first.status, first.headers["etag"]) == (200, '"1"')
    assert first.json()["active"] == "cost-aware"
    stale = await world.ask(f"PUT {ACTIVE}", {"name": "largest"}, headers={"if-match": '"0"'})
    assert (stale.status, stale.json()["error"]["code"]) == (412, "precondition_failed")
    assert world.runtime.router.strategy_name == "cost-aware"
    wrong = await world.ask(f"PUT {ACTIVE}", {"name": "largest"}, headers={"if-match": "x"})
    assert (wrong.status, wrong.json()["error"]["param"]) == (400, "if-match")
    reset = await world.ask(f"DELETE {ACTIVE}", headers={"if-match": '"1"'})
    assert (reset.status, reset.json()["override"], reset.json()["version"]) == (200, None, 2)
    assert world.runtime.router.strategy_name == configured
    rows = [row["action"] for row in await world.state.audit.latest(limit=10)]
    assert rows == ["strategies.reset", "strategies.activate"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "nonsense"}, "name"),
        ({"name": "cost-aware", "options": {"nonsense": 1}}, "name"),
        ({}, "name"),
        ({"name": "cost-aware", "more": 1}, "more"),
    ],
)
async def test_a_strategy_that_cannot_be_used_is_not_stored(
    world: World, body: dict[str, Any], param: str
) -> None:
    answer = await world.ask(f"PUT {ACTIVE}", body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert (await world.state.documents.read("strategy")).version == 0


async def test_what_a_worker_could_not_apply_is_said(world: World) -> None:
    assert world.process.control is not None
    world.process.control.problems["strategy"] = "not here"
    assert (await world.ask(f"GET {ACTIVE}")).json()["problem"] == "not here"


async def test_breakers_by_hand(world: World) -> None:
    put = await world.ask(f"PUT {BREAKER}", {"override": "drain"})
    assert put.json() == {"deployment": "small-1", "override": "drain", "version": 1}
    assert (await world.chat()).status == 503
    both = await world.ask("PUT /routeiq/v1/breakers/large-1", {"override": "closed"})
    assert both.json()["version"] == 2
    found = (await world.ask("GET /routeiq/v1/breakers")).json()
    assert found["overrides"] == {"small-1": "drain", "large-1": "closed"}
    assert found["data"]["small-1"] == "drained"
    await world.ask(f"PUT {BREAKER}", {"override": None})
    assert (await world.chat()).status == 200
    found = (await world.ask("GET /routeiq/v1/breakers")).json()
    assert found["overrides"] == {"large-1": "closed"}
    assert (await world.ask("PUT /routeiq/v1/breakers/none", {"override": None})).status == 404
    assert (await world.ask(f"PUT {BREAKER}", {"override": "open"})).status == 400
    stale = await world.ask(f"PUT {BREAKER}", {"override": None}, headers={"if-match": '"1"'})
    assert stale.status == 412


async def test_two_who_change_breakers_at_once_do_not_undo_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.state.documents.read

    async def overtaken(name: str) -> Any:
        found = await read(name)
        monkeypatch.setattr(world.state.documents, "read", read)
        await world.ask("PUT /routeiq/v1/breakers/large-1", {"override": "drain"})
        return found

    monkeypatch.setattr(world.state.documents, "read", overtaken)
    answer = await world.ask(f"PUT {BREAKER}", {"override": "drain"})
    assert (answer.status, answer.json()["error"]["code"]) == (409, "conflict")
    assert (await read("breakers")).body == {"large-1": "drain"}


@pytest.mark.parametrize(
    ("call", "store", "method"),
    [
        (f"GET {ACTIVE}", "documents", "read"),
        (f"PUT {ACTIVE}", "documents", "write"),
        ("GET /routeiq/v1/breakers", "documents", "read"),
        (f"PUT {BREAKER}", "documents", "read"),
        ("GET /routeiq/v1/workers", "roster", "all"),
        ("GET /routeiq/v1/audit", "audit", "latest"),
    ],
)
async def test_a_store_that_is_down_is_a_503_that_names_no_host(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str, store: str, method: str
) -> None:
    async def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("db.internal is gone")

    monkeypatch.setattr(getattr(world.state, store), method, down)
    answer = await world.ask(
        call, {"name": "cost-aware"} if "active" in call else {"override": None}
    )
    assert (answer.status, answer.json()["error"]["code"]) == (503, "state_unavailable")
    assert "retry-after" in answer.headers
    assert b"internal" not in answer.body


async def test_a_reload_is_told_to_the_others_and_noted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, Any]] = []

    async def reload(why: str) -> Any:
        return config_of(digest="d" * 64)

    async def announce(topic: str, payload: Any) -> None:
        told.append((topic, payload))

    monkeypatch.setattr(world.process, "reload", reload)
    monkeypatch.setattr(world.process, "announce", announce)
    answer = await world.ask("POST /routeiq/v1/config/reload")
    assert (answer.status, answer.json()["digest"]) == (200, "d" * 64)
    assert told == [("reload", {"digest": "d" * 64, "worker": "worker"})]
    rows = await world.state.audit.latest(limit=1)
    assert (rows[0]["action"], rows[0]["actor"]) == ("config.reload", "master")


async def test_a_reload_that_is_refused_says_why_and_nobody_hears_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def reload(why: str) -> Any:
        raise ConfigError([Problem(key="routeiq.nope", message="is not a known key.")])

    async def announce(topic: str, payload: Any) -> None:
        told.append(topic)

    monkeypatch.setattr(world.process, "reload", reload)
    monkeypatch.setattr(world.process, "announce", announce)
    answer = await world.ask("POST /routeiq/v1/config/reload")
    assert answer.status == 400
    assert "routeiq.nope: is not a known key." in answer.json()["error"]["message"]
    assert told == []
    assert not await world.state.audit.latest(limit=1)


@pytest.mark.parametrize(("text", "ok"), [("model_list: []\n", True), ("nonsense: 1\n", False)])
async def test_the_file_is_validated_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, tmp_path: Path, text: str, ok: bool
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    world = World(monkeypatch, clock, config_of(source=str(path)))
    answer = (await world.ask("POST /routeiq/v1/config/validate")).json()
    assert answer["ok"] is ok
    assert bool(answer["problems"]) is not ok
    assert world.runtime.config.digest != answer["digest"], "nothing was loaded"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?limit=1", 200),
        ("?limit=1000&before=5", 200),
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?limit=-1", 400),
        ("?limit=x", 400),
        ("?limit=%C2%B2", 400),
        ("?before=0", 400),
        ("?before=" + "9" * 40, 400),
    ],
)
async def test_the_audit_is_paged(world: World, query: str, status: int) -> None:
    for n in range(3):
        await world.ask(f"PUT {BREAKER}", {"override": "drain" if n % 2 else "closed"})
    answer = await world.ask(f"GET /routeiq/v1/audit{query}")
    assert answer.status == status
    if status == 200:
        rows = answer.json()["data"]
        assert len(rows) == (1 if query == "?limit=1" else 3)
        assert rows[0]["action"] == "breakers.override"


def worker(id: str, generation: int = 3, config: str = "a") -> Worker:
    return Worker(
        id=id,
        host="h",
        pid=1,
        started_at=0.0,
        seen_at=0.0,
        generation=generation,
        directory=0,
        config=config,
        version="1",
    )


@pytest.mark.parametrize(
    ("workers", "agreed", "generation"),
    [
        ([], True, 0),
        ([worker("a"), worker("b")], True, 3),
        ([worker("a"), worker("b", generation=2)], False, 3),
        ([worker("a"), worker("b", config="b")], False, 3),
    ],
)
def test_whether_all_have_applied_the_same(
    workers: list[Worker], agreed: bool, generation: int
) -> None:
    found = workers_report(workers)
    assert (found["agreed"], found["generation"]) == (agreed, generation)
    assert len(found["data"]) == len(workers)
