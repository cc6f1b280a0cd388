from __future__ import annotations

import asyncio

import pytest

from routeiq.config.model import RouterConfig
from routeiq.exceptions import (
    ConnectFailed,
    ConnectionLost,
    NoHealthyDeployment,
    UpstreamFailed,
    UpstreamTimedOut,
    UpstreamTimeout,
)
from routeiq.gateway.attempt import Failure, Reply
from routeiq.types import ModelFacts
from tests.support.upstreams import Rig, Step, refusal, stream

pytestmark = pytest.mark.anyio
PAIR = {"pair": ("first", "second")}
TOO_LONG = "context_length_exceeded"
INDECENT = "content_policy_violation"


def only(kind: str) -> RouterConfig:
    """Fallbacks of one kind."""
    spare = {"pair": ("spare",)}
    if kind == "context_window_fallbacks":
        return RouterConfig(context_window_fallbacks=spare)
    return RouterConfig(content_policy_fallbacks=spare)


def timeout() -> UpstreamTimeout:
    return UpstreamTimeout("too slow", phase="first_byte")


async def test_the_first_deployment_answers_and_nobody_else_is_asked() -> None:
    rig = Rig({}, PAIR)
    result, trace = await rig.call("pair")
    assert isinstance(result, Reply)
    assert result.deployment.id == "first"
    assert rig.client.calls == ["first"]
    assert [one.status for one in trace.attempts] == [200]
    assert rig.in_flight() == {}


@pytest.mark.parametrize(
    "failure",
    [
        refusal(500),
        refusal(429),
        refusal(401),
        ConnectFailed("x"),
        ConnectionLost("x"),
        timeout(),
    ],
    ids=lambda step: str(getattr(step, "status", type(step).__name__)),
)
async def test_the_next_deployment_is_asked_after_the_providers_failure(failure: Step) -> None:
    rig = Rig({"first": [failure]}, PAIR)
    result, trace = await rig.call("pair")
    assert isinstance(result, Reply)
    assert result.deployment.id == "second"
    assert rig.client.calls == ["first", "second"]
    assert [one.deployment_id for one in trace.attempts] == ["first", "second"]
    assert rig.in_flight() == {}


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_client_error_passes_through_at_once(status: int) -> None:
    rig = Rig({"first": [refusal(status, "yours")]}, PAIR, threshold=1)
    result, _ = await rig.call("pair")
    assert isinstance(result, Failure)
    assert (result.status, b"yours" in result.body) == (status, True)
    assert rig.client.calls == ["first"]
    assert rig.runtime.breakers.state("first") == "closed"


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (1, 2), (2, 3), (5, 6)])
async def test_num_retries_bounds_the_attempts(retries: int, calls: int) -> None:
    rig = Rig(
        {"first": [refusal(500)], "second": [refusal(500)]},
        PAIR,
        router=RouterConfig(num_retries=retries),
        threshold=100,
    )
    with pytest.raises(UpstreamFailed):
        await rig.call("pair")
    assert len(rig.client.calls) == calls


async def test_refused_credentials_are_not_tried_again_at_the_same_place() -> None:
    rig = Rig({"first": [refusal(401)], "second": [refusal(401)]}, PAIR)
    with pytest.raises(UpstreamFailed, match="API key of deployment 'second'") as raised:
        await rig.call("pair")
    assert rig.client.calls == ["first", "second"]
    assert raised.value.status == 502


async def test_a_timeout_at_the_end_is_504() -> None:
    rig = Rig({"only": [timeout()]}, {"one": ("only",)})
    with pytest.raises(UpstreamTimedOut):
        await rig.call("one")
    assert rig.client.calls == ["only"] * 3


@pytest.mark.parametrize(("wait", "calls"), [("0", 3), ("30", 1)])
async def test_retry_after_is_waited_for_only_if_it_is_short(wait: str, calls: int) -> None:
    rig = Rig({"only": [refusal(429, retry_after=wait)]}, {"one": ("only",)})
    result, _ = await rig.call("one")
    assert isinstance(result, Failure)
    assert (result.status, result.retry_after_s) == (429, float(wait))
    assert len(rig.client.calls) == calls


async def test_a_spent_budget_forbids_retries() -> None:
    rig = Rig({"first": [refusal(500)]}, PAIR, budget=0.0)
    with pytest.raises(UpstreamFailed):
        await rig.call("pair")
    assert rig.client.calls == ["first"]


async def test_the_budget_is_refilled_by_time_whatever_the_wall_clock_does() -> None:
    rig = Rig({"only": [refusal(500)]}, {"one": ("only",)}, budget=0.01, threshold=1000)

    async def calls_of_one_request() -> int:
        before = len(rig.client.calls)
        with pytest.raises(UpstreamFailed):
            await rig.call("one")
        return len(rig.client.calls) - before

    for _ in range(5):
        assert await calls_of_one_request() == 3
    assert await calls_of_one_request() == 1
    rig.clock.wall_offset += 1e6
    assert await calls_of_one_request() == 1
    rig.clock.advance(2.0)
    rig.clock.wall_offset -= 3e6
    assert await calls_of_one_request() == 3


async def test_fallbacks_answer_when_the_group_fails() -> None:
    router = RouterConfig(fallbacks={"pair": ("broken", "spare")}, num_retries=1)
    script: dict[str, list[Step]] = {
        name: [refusal(500)] for name in ("first", "second", "broken-1")
    }
    groups = {**PAIR, "broken": ("broken-1",), "spare": ("spare-1",)}
    result, trace = await Rig(script, groups, router=router).call("pair")
    assert isinstance(result, Reply)
    assert result.deployment.id == "spare-1"
    assert [one.deployment_id for one in trace.attempts] == [
        "first",
        "second",
        "broken-1",
        "broken-1",
        "spare-1",
    ]


@pytest.mark.parametrize(("allowed", "answered"), [(0, False), (1, True)])
async def test_max_fallbacks(allowed: int, answered: bool) -> None:
    router = RouterConfig(fallbacks={"one": ("spare",)}, num_retries=0, max_fallbacks=allowed)
    rig = Rig({"only": [refusal(500)]}, {"one": ("only",), "spare": ("s",)}, router=router)
    if answered:
        assert isinstance((await rig.call("one"))[0], Reply)
        return
    with pytest.raises(UpstreamFailed):
        await rig.call("one")


@pytest.mark.parametrize(
    ("text", "kind"),
    [(TOO_LONG, "context_window_fallbacks"), (INDECENT, "content_policy_fallbacks")],
)
async def test_requests_that_a_model_cannot_take_have_fallbacks_of_their_own(
    text: str, kind: str
) -> None:
    groups = {**PAIR, "spare": ("spare-1",)}
    script: dict[str, list[Step]] = {"first": [refusal(400, text)]}
    result, _ = await Rig(script, groups, router=only(kind)).call("pair")
    assert isinstance(result, Reply)
    assert result.deployment.id == "spare-1"
    plain = Rig(script, groups, router=RouterConfig(fallbacks={"pair": ("spare",)}))
    result, _ = await plain.call("pair")
    assert isinstance(result, Failure)
    assert plain.client.calls == ["first"]


async def test_a_larger_window_in_the_same_group_is_tried_for_a_prompt_that_is_too_long() -> None:
    sizes = {"a": 1000, "b": 1000, "c": 9000}
    facts = {name: ModelFacts(context_tokens=size) for name, size in sizes.items()}
    rig = Rig({"a": [refusal(400, TOO_LONG)]}, {"three": ("a", "b", "c")}, facts=facts)
    result, _ = await rig.call("three")
    assert isinstance(result, Reply)
    assert rig.client.calls == ["a", "c"]


async def test_an_open_breaker_is_passed_over_and_a_closed_fallback_decides() -> None:
    router = RouterConfig(fallbacks={"one": ("spare",)}, num_retries=0)
    groups = {"one": ("only",), "spare": ("spare-1",)}
    rig = Rig({"only": [refusal(500)]}, groups, router=router, threshold=1)
    await rig.call("one")
    assert rig.runtime.breakers.state("only") == "open"
    result, _ = await rig.call("one")
    assert isinstance(result, Reply)
    assert rig.client.calls == ["only", "spare-1", "spare-1"]
    lonely = Rig({"only": [refusal(500)]}, {"one": ("only",)}, threshold=1)
    with pytest.raises(UpstreamFailed):
        await lonely.call("one")
    with pytest.raises(NoHealthyDeployment) as raised:
        await lonely.call("one")
    assert raised.value.retry_after_s == pytest.approx(30.0)


async def test_the_retry_stops_at_a_breaker_that_opened_meanwhile() -> None:
    rig = Rig({"only": [refusal(500)]}, {"one": ("only",)}, threshold=2)
    with pytest.raises(UpstreamFailed):
        await rig.call("one")
    assert rig.client.calls == ["only", "only"]


async def test_a_hedge_wins_and_the_loser_is_cancelled() -> None:
    rig = Rig({"first": [None]}, PAIR, hedge_after_s=0.001, threshold=1)
    result, _ = await rig.call("pair")
    assert isinstance(result, Reply)
    assert result.deployment.id == "second"
    await asyncio.sleep(0)
    assert rig.client.cancelled == ["first"]
    assert rig.in_flight() == {}
    assert rig.runtime.breakers.state("first") == "closed"


async def test_a_losing_hedge_that_answers_too_is_closed() -> None:
    late = stream(b"data: late\n\n")
    rig = Rig({"first": [None], "second": [late]}, PAIR, hedge_after_s=0.001)
    trace, request, body = rig.request("pair", stream=True)
    trace.decision = rig.caller.decide(request)
    deployments = [one.deployment for one in trace.decision.ranking]
    make = rig.attempts.make
    ready = [
        asyncio.ensure_future(make(trace, one, request, body)) for one in (deployments[1],) * 2
    ]
    await asyncio.wait(ready)
    winner = await rig.caller._race(*ready)
    assert isinstance(winner, Reply)
    assert late.closed
    assert rig.in_flight() == {"second": 1}


async def test_both_hedged_calls_fail() -> None:
    rig = Rig(
        {"first": [stream(timeout())], "second": [refusal(500)]},
        PAIR,
        hedge_after_s=0.0,
        threshold=9,
    )
    with pytest.raises(UpstreamFailed):
        await rig.call("pair", stream=True)
    assert rig.in_flight() == {}


async def test_cancelling_a_hedged_call_cancels_both() -> None:
    rig = Rig({"first": [None], "second": [None]}, PAIR, hedge_after_s=0.0)
    call = asyncio.ensure_future(rig.call("pair"))
    while len(rig.client.calls) < 2:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(3):
        await asyncio.sleep(0)
    assert sorted(rig.client.cancelled) == ["first", "second"]
    assert rig.in_flight() == {}


async def test_a_defect_in_one_hedged_call_leaves_nothing_running() -> None:
    rig = Rig({"first": [None], "second": [RuntimeError("defect")]}, PAIR, hedge_after_s=0.0)
    with pytest.raises(RuntimeError, match="defect"):
        await rig.call("pair")
    for _ in range(3):
        await asyncio.sleep(0)
    assert rig.client.cancelled == ["first"]
    assert rig.in_flight() == {}
