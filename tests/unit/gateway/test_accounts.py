from __future__ import annotations

from typing import Any

import pytest

from routeiq.access.principal import Principal
from routeiq.gateway.accounts import Accounts, identity
from routeiq.gateway.trace import Trace
from tests.support.clock import FakeClock
from tests.support.upstreams import refusal
from tests.support.worlds import MASTER, World, config_of

pytestmark = pytest.mark.anyio
KEY = "application-key-secret"
SECTION: dict[str, Any] = {
    "access": {
        "keys": {"app": {"key": KEY, "user": "ann"}},
        "users": {"ann": {"team": "research"}},
        "teams": {"research": {}},
    }
}
SHADOW = {
    "mode": "shadow",
    "variants": {"same": {}, "new": {"model": "large"}},
    "models": ["small"],
}


class Lines:
    """An access log that keeps what it was given."""

    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Any]]] = []

    def write(self, message: str, record: dict[str, Any]) -> None:
        self.written.append((message, record))


def logged(world: World) -> Lines:
    """Let the world's pipeline write to a list of lines."""
    lines, runtime = Lines(), world.runtime
    accounts = Accounts(
        router=runtime.router,
        process=world.process,
        experiments=runtime.experiments,
        access_log=lines,  # type: ignore[arg-type]
        decision_file=None,
    )
    runtime.pipeline._observe = accounts.observe
    return lines


async def test_a_record_says_who_asked(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    world = World(monkeypatch, clock, config_of(SECTION))
    lines = logged(world)
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await world.chat(key=KEY, headers={"traceparent": parent})
    await world.chat()
    (first_message, first), (_, second) = lines.written
    assert first_message == "routing decision completed"
    assert (first["key"], first["key_id"], first["user"], first["team"]) == (
        "app",
        "config:app",
        "config:ann",
        "config:research",
    )
    assert first["trace_id"] == "a" * 32
    assert second["key"] == "master"
    assert not {"key_id", "trace_id", "experiment", "shadow"} & second.keys()
    assert [one["request_id"] for one in world.decisions.latest(5)] == [
        second["request_id"],
        first["request_id"],
    ]
    assert MASTER not in str(lines.written)
    assert KEY not in str(lines.written)


async def test_a_request_that_was_refused_is_a_line_and_no_decision(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock, config_of(SECTION))
    lines = logged(world)
    await world.chat(key="nobody")
    await world.chat("none", key=KEY)
    assert [message for message, _ in lines.written] == ["request refused"] * 2
    assert [(one["key"], one["status"]) for _, one in lines.written] == [(None, 401), ("app", 404)]
    assert not list(world.decisions.latest(5))


async def test_an_experiment_is_in_the_record_and_counted_with_its_outcome(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    section = {"experiments": {"ab": {"variants": {"same": {}}, "models": ["small"]}}}
    world = World(monkeypatch, clock, config_of(section), script={"small": [refusal(400)]})
    lines = logged(world)
    await world.chat()
    ((_, record),) = lines.written
    assert (record["experiment"], record["variant"]) == ("ab", "same")
    await world.runtime.experiments.flush()
    found = await world.state.counters.read("experiment:ab")
    assert (found["same:requests"], found["same:ended"], found["same:errors"]) == (1, 1, 1)


async def test_a_shadow_decides_beside_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock, config_of({"experiments": {"sh": SHADOW}}))
    lines, spent = logged(world), []
    monkeypatch.setattr(type(world.runtime.router), "commit", lambda *args: spent.append(args))
    answer = await world.chat()
    assert answer.headers["x-routeiq-model"] == "small"
    assert "x-routeiq-experiment" not in answer.headers
    ((_, record),) = lines.written
    chosen = {one["variant"]: (one["model"], one["agrees"]) for one in record["shadow"]}
    assert chosen["new"] == ("large", False)
    assert world.client.calls == ["small"]
    assert len(spent) == 1


async def test_the_queue_of_the_database_gets_what_the_memory_gets(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world, queued = World(monkeypatch, clock), []

    class Store:
        def add(self, record: dict[str, Any], *_: object) -> None:
            queued.append(record)

    world.process.decision_store = Store()  # type: ignore[assignment]
    logged(world)
    await world.chat()
    assert queued == list(world.decisions.latest(5))


def test_who_asks_as_experiments_see_it(clock: FakeClock) -> None:
    trace = Trace(request_id="r", operation="chat", clock=clock)
    assert identity(trace) == {}
    trace.principal = Principal(alias="app", key_id="k", user="u", team="t")
    assert identity(trace) == {"key_id": "k", "user": "u", "team": "t"}
