"""Answers that a strategy looks at before the client does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from routeiq.gateway.attempt import Reply
from routeiq.gateway.caller import next_group, read_json
from routeiq.gateway.trace import Trace
from routeiq.strategies.cascade import CascadeStrategy
from routeiq.types import Decision, Deployment, JsonObject, ModelFacts, Ranked, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, deployment
from tests.support.upstreams import Answer, Rig, Step, refusal, stream

pytestmark = pytest.mark.anyio
Verdict = Callable[[list[str]], bool]
LADDER = ("cheap", "middle", "strong")
GROUPS = {name: (name,) for name in LADDER}
PRICES = {name: 10.0 ** (place - 4) for place, name in enumerate(LADDER)}
FACTS = {
    name: ModelFacts(input_usd_per_token=price, output_usd_per_token=0.0)
    for name, price in PRICES.items()
}
TOKENS = 5
"""Input tokens of every scripted answer; output is free here."""


async def verified(
    monkeypatch: pytest.MonkeyPatch,
    verdict: Verdict,
    script: dict[str, list[Step]] | None = None,
    *,
    streamed: bool = False,
    **rig_options: int,
) -> tuple[Reply, Trace, Rig, list[list[str]]]:
    """Call up the ladder with a verifier that decides by the groups that have answered so far."""
    rig = Rig(script or {}, GROUPS, facts=FACTS, **rig_options)  # type: ignore[arg-type]
    asked: list[list[str]] = []

    def accepts(
        strategy: object, request: RoutingRequest, answers: Sequence[tuple[Deployment, JsonObject]]
    ) -> bool:
        asked.append([one.group for one, _ in answers])
        return verdict(asked[-1])

    router = rig.runtime.router
    monkeypatch.setattr(router, "verifier_of", lambda request, decision: CascadeStrategy())
    monkeypatch.setattr(router, "accepts", accepts)
    trace, request, body = rig.request("cheap", stream=streamed)
    decision = rig.caller.decide(request)
    by_id = {one.id: one for one in rig.runtime.resolved.deployments}
    ranking = tuple(Ranked(deployment=by_id[name], score=0.5, utility=0.5) for name in LADDER)
    trace.decision = replace(decision, ranking=ranking)
    result = await rig.caller.call(trace, request, body)
    assert isinstance(result, Reply)
    return result, trace, rig, asked


async def test_an_accepted_answer_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reply, trace, rig, asked = await verified(monkeypatch, lambda groups: True)
    assert (reply.deployment.id, asked) == ("cheap", [["cheap"]])
    assert rig.client.calls == ["cheap"]
    assert (trace.rejected, trace.cost_usd) == (0, None)  # the pipeline charges the last answer


async def test_a_rejected_answer_is_paid_and_the_next_model_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reply, trace, rig, asked = await verified(monkeypatch, lambda groups: len(groups) == 2)
    assert reply.deployment.id == "middle"
    assert asked == [["cheap"], ["cheap", "middle"]]
    assert rig.client.calls == ["cheap", "middle"]
    assert trace.rejected == 1
    assert trace.cost_usd == pytest.approx(TOKENS * PRICES["cheap"])


async def test_where_all_are_rejected_the_last_answer_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reply, trace, _, asked = await verified(monkeypatch, lambda groups: False)
    assert (reply.deployment.id, len(asked), trace.rejected) == ("strong", 3, 2)
    assert trace.cost_usd == pytest.approx(TOKENS * (PRICES["cheap"] + PRICES["middle"]))


async def test_a_failure_on_the_way_up_leaves_the_answer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script: dict[str, list[Step]] = {"middle": [refusal(500)]}
    reply, trace, rig, _ = await verified(monkeypatch, lambda groups: False, script)
    assert reply.deployment.id == "cheap"
    assert rig.client.calls == ["cheap", "middle"]
    assert (trace.rejected, trace.cost_usd) == (0, None)
    assert [one.status for one in trace.attempts] == [200, 500]


async def test_an_open_breaker_on_the_way_up_leaves_the_answer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allows = "routeiq.resilience.breaker.Breakers.allows"
    monkeypatch.setattr(allows, lambda self, id: id == "cheap")
    reply, _, rig, _ = await verified(monkeypatch, lambda groups: False)
    assert (reply.deployment.id, rig.client.calls) == ("cheap", ["cheap"])


async def test_an_answer_without_usage_adds_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Step]] = {"cheap": [Answer(pieces=(b'{"choices":[]}',))]}
    _, trace, _, _ = await verified(monkeypatch, lambda groups: len(groups) == 2, script)
    assert (trace.rejected, trace.cost_usd) == (1, None)


async def test_a_stream_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Step]] = {"cheap": [stream(b"data: x\n\n")]}
    reply, trace, _, asked = await verified(
        monkeypatch, lambda groups: False, script, streamed=True
    )
    assert reply.response is not None
    assert (asked, trace.rejected) == ([], 0)


def test_the_next_group_is_one_that_neither_answered_nor_was_tried() -> None:
    twin = deployment("twin", "cheap")
    ranking = [Ranked(deployment=one, score=0, utility=0) for one in (CHEAP, twin, MIDDLE, STRONG)]
    decision = Decision(
        id="d", requested="auto", strategy="cascade", reason="", ranking=tuple(ranking)
    )
    assert next_group(decision, {"cheap"}, set()) is MIDDLE
    assert next_group(decision, {"cheap"}, {"middle"}) is STRONG
    assert next_group(decision, {"cheap", "middle", "strong"}, set()) is None


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a":1}', {"a": 1}), (b"[1]", {}), (b"\x1f\x8b", {}), (b"", {})]
)
def test_an_answer_that_is_no_object_is_empty(body: bytes, value: JsonObject) -> None:
    assert read_json(body) == value
