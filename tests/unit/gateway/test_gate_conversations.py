from __future__ import annotations

from typing import Any

import pytest

from routeiq.gateway.trace import Trace
from routeiq.routing.affinity import conversation_key
from routeiq.types import RoutingRequest
from tests.support.clock import FakeClock
from tests.support.upstreams import Answer, refusal
from tests.support.worlds import World, config_of, deployment

pytestmark = pytest.mark.anyio


async def test_a_conversation_stays_and_moves_only_to_what_answered(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    twins = (deployment("small"), deployment("small", id="twin", model="openai/twin"))
    world = World(monkeypatch, clock, config_of(groups=("small",), deployments=twins))
    session = {"x-routeiq-session-id": "s"}
    first = (await world.chat(headers=session)).headers["x-routeiq-deployment"]
    for _ in range(6):
        answer = await world.chat(headers=session)
        assert answer.headers["x-routeiq-deployment"] == first
        assert "stays with" in answer.headers["x-routeiq-reason"]
    # Both fail, the other one last: that is no reason to move there.
    world.client.script.update({"small": [refusal(500)], "twin": [refusal(500)]})
    failed = await world.chat(headers=session)
    assert failed.status >= 500
    assert len(set(world.client.calls)) == 2
    world.client.script.update({"small": [Answer()], "twin": [Answer()]})
    for breaker in ("small-1", "twin"):
        world.process.breakers.close_remotely(breaker)
    after = (await world.chat(headers=session)).headers["x-routeiq-deployment"]
    assert after == first
    # One fails, the other answers: that one has the prompt in its cache now.
    broken = "small" if first == "small-1" else "twin"
    world.client.script.update({broken: [refusal(500)]})
    moved = await world.chat(headers=session)
    assert moved.status == 200
    assert moved.headers["x-routeiq-deployment"] != first
    world.client.script.update({broken: [Answer()]})
    again = await world.chat(headers=session)
    assert again.headers["x-routeiq-deployment"] == moved.headers["x-routeiq-deployment"]


async def test_an_answer_of_the_responses_api_is_a_conversation(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    body = b'{"id":"resp_1","usage":{"input_tokens":5,"output_tokens":7},"output":[]}'
    world.client.script["small"] = [Answer(pieces=(body,))]
    answer = await world.ask("POST /v1/responses", {"model": "small", "input": "hi"})
    assert answer.status == 200
    affinity = world.process.affinity
    assert affinity is not None
    assert affinity.get(conversation_key("", "resp_1", "small")) == "small-1"


@pytest.mark.parametrize(
    ("kind", "first_token_ms", "moves"),
    [
        ("success", 5.0, True),
        ("client_disconnected", None, True),
        ("stream_cut", 5.0, True),
        ("error", 5.0, True),
        ("error", None, False),
    ],
)
async def test_a_conversation_moves_to_what_began_to_answer(
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    kind: Any,
    first_token_ms: float | None,
    moves: bool,
) -> None:
    world = World(monkeypatch, clock)
    affinity = world.process.affinity
    assert affinity is not None
    trace = Trace(request_id="r", operation="chat", clock=clock)
    trace.request = RoutingRequest(id="r", operation="chat", model="small", text="hi")
    trace.decision = world.runtime.router.decide(trace.request)
    trace.conversation = "conversation"
    world.runtime.gate.commit(trace, trace.decision)
    assert affinity.get("conversation") == "small-1"
    trace.answered_by = world.runtime.resolved.deployments[1]
    trace.kind, trace.first_token_ms = kind, first_token_ms
    world.runtime.gate.leave(trace)
    assert affinity.get("conversation") == ("large-1" if moves else "small-1")


@pytest.mark.parametrize("enabled", [True, False])
async def test_affinity_may_be_off(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, enabled: bool
) -> None:
    world = World(monkeypatch, clock, config_of({"affinity": {"enabled": enabled}}))
    assert (world.process.affinity is not None) is enabled
    assert (world.process.status()["affinity"] is not None) is enabled
    assert (await world.chat(headers={"x-routeiq-session-id": "s"})).status == 200
