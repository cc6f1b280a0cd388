from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routeiq.exceptions import ConnectFailed, ConnectionLost, UpstreamTimeout
from routeiq.gateway.attempt import Failure, Reply
from routeiq.resilience.retry import Verdict
from tests.support.upstreams import ANSWER, EVENTS, Answer, Rig, Step, refusal, stream

pytestmark = pytest.mark.anyio
ONE = {"one": ("only",)}


async def attempt(rig: Rig, *, streamed: bool = False) -> Any:
    trace, request, body = rig.request("one", stream=streamed)
    deployment = rig.runtime.resolved.deployments[0]
    return await rig.attempts.make(trace, deployment, request, body)


async def test_an_answer_brings_body_usage_and_harmless_headers_only() -> None:
    headers = ((b"content-type", b"application/json"), (b"x-host", b"10.0.0.1"))
    rig = Rig({"only": [Answer(headers=(*headers, (b"openai-processing-ms", b"3")))]}, ONE)
    reply = await attempt(rig)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (200, ANSWER)
    assert dict(reply.headers).keys() == {b"content-type", b"openai-processing-ms"}
    assert reply.usage is not None
    assert reply.usage.output_tokens == 7
    assert rig.in_flight() == {}


@pytest.mark.parametrize(
    ("step", "code", "verdict"),
    [
        (refusal(503), "status_503", Verdict.RETRY),
        (refusal(401), "status_401", Verdict.AUTH_ERROR),
        (refusal(400), "status_400", Verdict.CLIENT_ERROR),
        (ConnectFailed("x"), "connect_failed", Verdict.RETRY),
        (ConnectionLost("x"), "connection_lost", Verdict.RETRY),
        (UpstreamTimeout("x", phase="connect"), "upstream_timeout", Verdict.RETRY),
        (Answer(pieces=(b'{"cut": "in the mid',)), "malformed_answer", Verdict.RETRY),
        (Answer(pieces=(b'{"a"', ConnectionLost("x"))), "connection_lost", Verdict.RETRY),
        (Answer(headers=((b"content-type", b"text/html"),)), "malformed_answer", Verdict.RETRY),
        (Answer(headers=()), "malformed_answer", Verdict.RETRY),
    ],
)
async def test_what_counts_as_which_failure(step: Step, code: str, verdict: Verdict) -> None:
    rig = Rig({"only": [step]}, ONE, threshold=1)
    failure = await attempt(rig)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.verdict) == (code, verdict)
    counted = verdict is not Verdict.CLIENT_ERROR
    assert rig.runtime.breakers.state("only") == ("open" if counted else "closed")
    assert rig.in_flight() == {}


async def test_a_stream_is_held_until_its_first_bytes() -> None:
    rig = Rig({"only": [stream(b"data: 1\n\n", b"data: 2\n\n")]}, ONE)
    reply = await attempt(rig, streamed=True)
    assert isinstance(reply, Reply)
    assert reply.body == b"data: 1\n\n"
    assert rig.in_flight() == {"only": 1}
    assert reply.chunks is not None
    assert [piece async for piece in reply.chunks] == [b"data: 2\n\n"]
    rig.attempts.end_stream(reply, broken=False)
    assert rig.in_flight() == {}
    assert rig.runtime.breakers.state("only") == "closed"


@pytest.mark.parametrize(
    "step", [stream(), stream(ConnectionLost("x")), stream(UpstreamTimeout("x", phase="idle"))]
)
async def test_a_stream_that_fails_before_its_first_bytes_is_a_failure(step: Answer) -> None:
    rig = Rig({"only": [step]}, ONE, threshold=1)
    assert isinstance(await attempt(rig, streamed=True), Failure)
    assert step.closed
    assert rig.in_flight() == {}
    assert rig.runtime.breakers.state("only") == "open"


async def test_a_head_without_events_times_out_like_no_head() -> None:
    silent = stream(None)
    rig = Rig({"only": [silent]}, ONE, timeout_s=0.01)
    failure = await attempt(rig, streamed=True)
    assert isinstance(failure, Failure)
    assert failure.code == "upstream_timeout"
    assert silent.closed
    assert rig.in_flight() == {}


async def test_a_broken_stream_is_told_to_the_breaker() -> None:
    rig = Rig({"only": [stream(b"data: 1\n\n")]}, ONE, threshold=1)
    reply = await attempt(rig, streamed=True)
    rig.attempts.end_stream(reply, broken=True)
    assert rig.runtime.breakers.state("only") == "open"
    assert rig.in_flight() == {}


async def test_a_json_answer_to_a_stream_request_is_passed_as_it_is() -> None:
    reply = await attempt(Rig({"only": [Answer()]}, ONE), streamed=True)
    assert isinstance(reply, Reply)
    assert (reply.response, reply.body) == (None, ANSWER)


@pytest.mark.parametrize("step", [None, stream(None)], ids=["head", "first bytes"])
async def test_a_cancelled_probe_gives_its_place_back(step: Step) -> None:
    rig = Rig({"only": [refusal(500), step, Answer()]}, ONE, threshold=1)
    await attempt(rig)
    assert rig.runtime.breakers.state("only") == "open"
    rig.clock.advance(31.0)
    rig.clock.wall_offset -= 1e7
    probe = asyncio.ensure_future(attempt(rig, streamed=True))
    while len(rig.client.calls) < 2:
        await asyncio.sleep(0)
    assert not rig.runtime.breakers.allows("only")
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert rig.runtime.breakers.allows("only")
    assert rig.in_flight() == {}
    assert isinstance(await attempt(rig), Reply)
    assert rig.runtime.breakers.state("only") == "closed"


async def test_an_open_breaker_costs_no_call() -> None:
    rig = Rig({"only": [refusal(500)]}, ONE, threshold=1)
    await attempt(rig)
    failure = await attempt(rig)
    assert (failure.code, failure.status) == ("breaker_open", None)
    assert len(rig.client.calls) == 1


@pytest.mark.parametrize("jump", [-1e6, 0.0, 1e6])
async def test_a_jump_of_the_wall_clock_opens_and_closes_nothing(jump: float) -> None:
    rig = Rig({"only": [refusal(500)]}, ONE, threshold=2)
    await attempt(rig)
    rig.clock.wall_offset += jump
    await attempt(rig)
    assert rig.runtime.breakers.state("only") == "open"
    rig.clock.wall_offset -= 2 * jump
    assert rig.runtime.breakers.state("only") == "open"
    rig.clock.advance(30.0)
    assert rig.runtime.breakers.state("only") == "half_open"


async def test_times_are_measured_to_the_first_token_and_to_the_end() -> None:
    rig = Rig({"only": [Answer(headers=(EVENTS,), pieces=(b"data: 1\n\n",))]}, ONE)
    reply = await attempt(rig, streamed=True)
    rig.clock.advance(2.0)
    rig.attempts.end_stream(reply, broken=False)
    load = rig.runtime.load.of("only")
    assert (load.first_token_s, load.latency_s) == (0.0, 2.0)
