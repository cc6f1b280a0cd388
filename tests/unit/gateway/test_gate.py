from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.gateway.runtime import Runtime
from routeiq.routing.affinity import conversation_key
from tests.support.clock import FakeClock
from tests.support.upstreams import ANSWER, Answer, refusal, stream
from tests.support.worlds import World, config_of

pytestmark = pytest.mark.anyio
APP = "application-key-secret"
PIECE = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
END = (
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
)


def access(**settings: Any) -> dict[str, Any]:
    return {"access": {"keys": {"app": {"key": APP, **settings}}}}


LIMITED = access(
    limits={"requests_per_minute": 2, "tokens_per_minute": 100_000, "concurrent_requests": 1},
    budgets=[{"usd": 1.0}],
)
AB: dict[str, Any] = {
    "variants": {"same": {}, "other": {"model": "large"}},
    "subject": ["session", "request"],
    "models": ["small"],
}


class Line:
    """The server's connection: `cut` is the client leaving."""

    on_disconnect: Any = None

    def gone(self) -> bool:
        return False

    async def cut(self) -> None:
        while self.on_disconnect is None:
            await asyncio.sleep(0)
        self.on_disconnect()


async def used(world: World, name: str = "app", key: str = APP) -> dict[str, int]:
    """What the store says is taken, by kind, once all was settled."""
    await world.process.limiter.flush()
    principal = world.runtime.authenticator.known([(b"authorization", f"Bearer {key}".encode())])
    assert principal is not None
    found = await world.process.limiter.usage(principal)
    return {one.rule.kind: one.used for one in found}


async def counts(world: World, experiment: str = "ab") -> dict[str, int]:
    """What was counted, sums over the variants."""
    await world.runtime.experiments.flush()
    found: dict[str, int] = {}
    for field, value in (await world.state.counters.read(f"experiment:{experiment}")).items():
        name = field.partition(":")[2]
        found[name] = found.get(name, 0) + value
    return found


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_limit_refuses_and_nothing_was_begun(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    routeiq = {**LIMITED, "experiments": {"ab": AB}}
    world = World(monkeypatch, clock, config_of(routeiq))
    spent: list[object] = []
    monkeypatch.setattr(type(world.runtime.router), "commit", lambda *args: spent.append(args))
    for n in range(2):
        answer = await world.chat(key=APP, headers={"x-routeiq-session-id": f"s{n}"})
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
    refused = await world.chat(key=APP, headers={"x-routeiq-session-id": "s9"})
    assert (refused.status, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "retry-after" in refused.headers
    assert len(world.client.calls) == 2, "no provider was asked"
    assert len(spent) == 2, "no budget was debited"
    assert (await counts(world))["requests"] == 2, "nobody was exposed"
    assert len(world.decisions.latest(10)) == 2
    affinity = world.process.affinity
    assert affinity is not None
    for model in ("small", "large"):
        tenant = "key:config:app"
        found = affinity.get(conversation_key(tenant, "s9", model))
        assert not isinstance(found, str), "the conversation was bound to nothing"


async def test_what_was_really_used_is_what_counts(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock, config_of(LIMITED))
    assert (await world.chat(key=APP)).status == 200
    assert await used(world) == {
        "requests": 1,
        "tokens": 12,
        "concurrent": 0,
        "spend_usd": 12_000,
    }


async def test_a_provider_that_fails_costs_nothing_but_the_request(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock, config_of(LIMITED), script={"small": [refusal(400)]})
    assert (await world.chat(key=APP)).status == 400
    assert await used(world) == {"requests": 1, "tokens": 0, "concurrent": 0, "spend_usd": 0}


@pytest.mark.parametrize(("pieces", "kept"), [((PIECE, None), True), ((None,), False)])
async def test_who_hangs_up_in_the_middle_of_an_answer_pays_the_estimate(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, pieces: Any, kept: bool
) -> None:
    world = World(monkeypatch, clock, config_of(LIMITED), script={"small": [stream(*pieces)]})
    line = Line()
    asking = asyncio.create_task(world.chat(key=APP, body={"stream": True}, connection=line))
    await settle()
    assert (await used(world))["concurrent"] == 1
    await line.cut()
    await asking
    after = await used(world)
    assert (after["requests"], after["concurrent"]) == (1, 0)
    assert (after["tokens"] > 0) is kept
    assert (after["spend_usd"] > 0) is kept
    (record,) = world.decisions.latest(1)
    assert record["status"] == 499


async def test_a_request_that_is_cut_while_it_waits_for_its_limits_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock, config_of({**LIMITED, "experiments": {"ab": AB}}))
    reserve, go = world.state.limits.reserve, asyncio.Event()

    async def slow(*args: Any) -> Any:
        await go.wait()
        return await reserve(*args)

    monkeypatch.setattr(world.state.limits, "reserve", slow)
    asking = asyncio.create_task(world.chat(key=APP))
    await settle()
    asking.cancel()
    answer = await asking
    assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")
    go.set()
    await settle()
    after = await used(world)
    assert (after["tokens"], after["concurrent"], after["spend_usd"]) == (0, 0, 0)
    assert await counts(world) == {}
    assert world.client.calls == []


async def test_a_limit_that_fails_closed_is_a_clean_503(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    async def down(*_: Any) -> Any:
        raise StoreUnavailable("gone: redis-1.internal")

    for fail, status in (("closed", 503), ("open", 200)):
        world = World(
            monkeypatch, clock, config_of(access(limits={"tokens_per_minute": 500, "fail": fail}))
        )
        monkeypatch.setattr(world.state.limits, "reserve", down)
        answer = await world.chat(key=APP)
        assert answer.status == status
        assert b"internal" not in answer.body
        if status == 503:
            assert answer.json()["error"]["code"] == "state_unavailable"
            assert world.client.calls == []


@pytest.mark.parametrize(
    ("script", "status", "ended", "errors"),
    [
        ([Answer()], 200, 1, 0),
        ([refusal(500)], 502, 1, 1),
        ([stream(PIECE, END)], 200, 1, 0),
    ],
)
async def test_who_was_exposed_is_counted_once_and_observed_once(
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    script: list[Any],
    status: int,
    ended: int,
    errors: int,
) -> None:
    world = World(
        monkeypatch,
        clock,
        config_of({"experiments": {"ab": AB}}),
        script={"small": list(script), "large": list(script)},
    )
    streams = script[0].headers != Answer().headers
    answer = await world.chat(body={"stream": True} if streams else {})
    assert answer.status == status
    assert "x-routeiq-experiment" in answer.headers
    found = await counts(world)
    assert found["requests"] == 1
    assert found["ended"] == ended
    assert found.get("errors", 0) == errors


@pytest.mark.parametrize("how", ["client", "drain"])
async def test_an_exposed_request_that_is_cut_is_observed_once(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, how: str
) -> None:
    world = World(
        monkeypatch,
        clock,
        config_of({"experiments": {"ab": AB}}),
        script={"small": [None], "large": [None]},
    )
    line = Line()
    asking = asyncio.create_task(world.chat(connection=line))
    await settle()
    if how == "client":
        await line.cut()
    else:
        asking.cancel()
    await asking
    found = await counts(world)
    assert found["requests"] == 1
    # Who left says nothing of errors; who was cut off by us got one.
    assert (found.get("ended", 0), found.get("errors", 0)) == (
        (0, 0) if how == "client" else (1, 1)
    )
    assert len(world.decisions.latest(10)) == 1


async def test_a_key_gets_no_model_through_an_experiment_that_it_may_not_use(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    only = {"variants": {"other": {"model": "large"}}, "models": ["small"]}
    for models, group in ((["small"], "small"), (["*"], "large")):
        routeiq = {**access(models=models), "experiments": {"ab": only}}
        world = World(monkeypatch, clock, config_of(routeiq))
        answer = await world.chat(key=APP)
        assert answer.headers["x-routeiq-model"] == group
        assert ("x-routeiq-experiment" in answer.headers) is (group == "large")


async def test_rights_of_a_key(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    routeiq = access(models=["small"], profiles=["eco*"], may_hint=False, tags=["paid"])
    world = World(monkeypatch, clock, config_of(routeiq))
    denied = await world.chat("large", key=APP)
    assert (denied.status, denied.json()["error"]["code"]) == (403, "permission_denied")
    profile = await world.chat(key=APP, headers={"x-routeiq-profile": "quality"})
    assert (profile.status, profile.json()["error"]["param"]) == (403, "x-routeiq-profile")
    answer = await world.chat(key=APP, headers={"x-routeiq-hint": "large", "x-routeiq-tags": "a"})
    kept = world.decisions.find(answer.headers["x-routeiq-decision-id"])
    assert kept is not None
    assert kept.request.hint is None
    assert kept.request.tags == {"a", "paid"}


async def test_an_ordinary_request_waits_for_no_store(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """No limits, no session, no stored key: every store may hang."""
    world = World(monkeypatch, clock, config_of(access()))

    async def hang(*_: Any, **__: Any) -> Any:
        raise AssertionError("a store was asked")

    state = world.state
    for store in (state.limits, state.counters, state.conversations, state.directory):
        for name in dir(store):
            if not name.startswith("_") and asyncio.iscoroutinefunction(getattr(store, name)):
                monkeypatch.setattr(store, name, hang)
    answer = await world.chat(key=APP)
    assert (answer.status, answer.body) == (200, ANSWER)
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)


async def test_a_dry_run_counts_nothing(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    world = World(monkeypatch, clock, config_of({**LIMITED, "experiments": {"ab": AB}}))
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    answer = await world.ask("POST /routeiq/v1/route", body, key=APP)
    assert answer.status == 200
    assert answer.json()["experiment"] == "ab"
    assert await counts(world) == {}
    assert await used(world) == {"requests": 0, "tokens": 0, "concurrent": 0, "spend_usd": 0}


async def test_variants_are_served_by_a_strategy_that_is_there(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """At the start, before any store was read; and never before it was loaded."""
    variants = {"new": {"strategy": "cost-aware"}}
    routeiq = {
        "groups": {"both": {"models": ["small", "large"]}},
        "experiments": {"ab": {"variants": variants, "models": ["both"]}},
    }
    world = World(monkeypatch, clock, config_of(routeiq))
    answer = await world.chat("both")
    assert answer.headers["x-routeiq-strategy"] == "cost-aware"


async def test_an_experiment_whose_strategy_cannot_be_loaded_is_not_put_in_force(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    world = World(monkeypatch, clock)
    runtime: Runtime = world.runtime

    def broken(*_: Any) -> Any:
        raise ValueError("no artifact")

    monkeypatch.setattr(type(runtime.router), "ensure", broken)
    body = {"definitions": {"ab": {"variants": {"new": {"strategy": "knn"}}, "models": ["*"]}}}
    with pytest.raises(ValueError, match="no artifact"):
        await runtime.experiment(body)
    assert not runtime.experiments.definitions
    assert (await world.chat()).status == 200
