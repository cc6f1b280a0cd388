from __future__ import annotations

import orjson
import pytest

from routeiq.exceptions import InvalidRequest, ModelNotFound, UpstreamFailed
from routeiq.gateway.ask import Asking, answer_text
from routeiq.gateway.trace import Trace
from routeiq.types import JsonObject, ModelFacts
from tests.support.upstreams import Answer, Rig, Step, refusal

pytestmark = pytest.mark.anyio
MESSAGES: list[JsonObject] = [{"role": "user", "content": "EASY or HARD?"}]
PRICED = ModelFacts(input_usd_per_token=1e-3, output_usd_per_token=1e-2)


def says(content: object, *, usage: bool = True) -> Answer:
    body: JsonObject = {"choices": [{"message": {"content": content}}]}
    if usage:
        body["usage"] = {"prompt_tokens": 5, "completion_tokens": 7}
    return Answer(pieces=(orjson.dumps(body),))


def asking(*steps: Step) -> tuple[Asking, Rig, Trace]:
    rig = Rig({"m1": list(steps)}, {"judge": ("m1",)}, facts={"m1": PRICED})
    trace, _, _ = rig.request("judge")
    return Asking(rig.runtime.router, rig.attempts, trace), rig, trace


async def ask(asked: Asking, model: str = "judge", timeout_s: float = 5.0) -> str:
    return await asked(model, MESSAGES, max_tokens=4, timeout_s=timeout_s)


async def test_the_text_comes_back_and_its_cost_is_the_requests() -> None:
    asked, rig, trace = asking(says("HARD"))
    trace.charge(1.0)
    assert await ask(asked) == "HARD"
    assert trace.cost_usd == pytest.approx(1.0 + 5e-3 + 7e-2)
    assert rig.in_flight() == {}
    assert (trace.attempts, trace.tried) == ([], set())  # not an attempt at the client's request


async def test_an_answer_without_usage_costs_nothing_that_is_known() -> None:
    asked, _, trace = asking(says("HARD", usage=False))
    await ask(asked)
    assert trace.cost_usd is None


async def test_an_unknown_model_cannot_be_asked() -> None:
    asked, rig, _ = asking(says("HARD"))
    with pytest.raises(ModelNotFound):
        await ask(asked, "nobody")
    assert rig.client.calls == []


async def test_a_strategy_cannot_ask_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, rig, _ = asking(says("HARD"))
    monkeypatch.setattr(rig.runtime.router, "is_slow", lambda request: request.model == "auto")
    with pytest.raises(InvalidRequest, match="'auto': it would ask itself"):
        await ask(asked, "auto")
    assert rig.client.calls == []


async def test_an_answer_that_takes_too_long_is_cancelled() -> None:
    asked, rig, trace = asking(None)
    with pytest.raises(UpstreamFailed, match=r"'judge' did not answer within 0\.001 s"):
        await ask(asked, timeout_s=0.001)
    assert rig.client.cancelled == ["m1"]
    assert rig.in_flight() == {}
    assert trace.cost_usd is None


@pytest.mark.parametrize("step", [refusal(500), refusal(400), refusal(429)])
async def test_a_failure_is_told_after_one_attempt(step: Step) -> None:
    asked, rig, _ = asking(step)
    with pytest.raises(UpstreamFailed, match=r"'judge' failed: status_"):
        await ask(asked)
    assert rig.client.calls == ["m1"]


async def test_an_answer_of_another_shape_is_a_failure_but_is_paid() -> None:
    body = b'{"object":"list","usage":{"prompt_tokens":5,"completion_tokens":7}}'
    asked, _, trace = asking(Answer(pieces=(body,)))
    with pytest.raises(UpstreamFailed, match="no chat completion"):
        await ask(asked)
    assert trace.cost_usd == pytest.approx(5e-3 + 7e-2)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b"7"])
def test_what_is_no_completion_has_no_text(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        answer_text(body)


@pytest.mark.parametrize(("content", "text"), [("a", "a"), (None, ""), ([{"type": "text"}], "")])
def test_content_that_is_no_text_is_empty(content: object, text: str) -> None:
    assert answer_text(orjson.dumps({"choices": [{"message": {"content": content}}]})) == text
