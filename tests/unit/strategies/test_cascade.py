from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routeiq.strategies.cascade import CascadeStrategy
from routeiq.types import Capability, Deployment, JsonObject, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, deployment, facts, request

CHOICE = "Which is it?\nA. this\nB. that"
NANO = deployment("nano", facts=facts((0.01, 0.04)))
POOL = [
    candidate("", of=STRONG, cost_usd=0.02),
    candidate("", of=CHEAP, cost_usd=0.0002),
    candidate("", of=MIDDLE, cost_usd=0.002),
    candidate("", of=NANO, cost_usd=0.00002),
]


def made(**options: Any) -> CascadeStrategy:
    return CascadeStrategy(CascadeStrategy.Options(**options))


def order(strategy: CascadeStrategy, asked: RoutingRequest) -> list[str]:
    scores = strategy.score(asked, POOL)
    return [POOL[i].deployment.id for i in sorted(range(4), key=lambda i: -scores[i])]


def answers(*texts: str) -> list[tuple[Deployment, JsonObject]]:
    return [
        (CHEAP, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
        for text in texts
    ]


def test_ladder_is_the_cheapest_then_the_best() -> None:
    assert order(made(), request(CHOICE)) == ["nano", "cheap", "strong", "middle"]
    assert order(made(max_calls=2), request(CHOICE)) == ["nano", "strong", "middle", "cheap"]
    assert order(made(max_calls=4), request(CHOICE)) == ["nano", "cheap", "middle", "strong"]


def test_unknown_cost_is_the_dearest() -> None:
    pool = [
        candidate("", of=CHEAP),
        candidate("", of=MIDDLE, cost_usd=0.1),
        candidate("", of=STRONG),
    ]
    scores = made().score(request(CHOICE), pool)
    assert scores == [2.0, 3.0, 1.0] or scores == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    "more",
    [
        {"stream": True},
        {"choices": 2},
        {"needs": frozenset({Capability.TOOLS})},
        {"operation": "embeddings"},
    ],
)
@pytest.mark.parametrize("mode", ["agreement", "verifier"])
def test_what_cannot_wait_is_not_cascaded(more: dict[str, Any], mode: str) -> None:
    strategy, asked = made(mode=mode), request(CHOICE, **more)
    assert not strategy.cascades(asked)
    assert strategy.accept(asked, answers(""))
    assert strategy.explain(asked).startswith("not cascaded, difficulty")


def test_without_a_cascade_the_cheapest_that_is_good_enough() -> None:
    asked = request("Prove it.", stream=True)  # predicted: 0.734, 0.780, 0.861, 0.959
    assert order(made(min_quality=0.85), asked)[0] == "middle"
    assert order(made(min_quality=0.95), asked)[0] == "strong"


@pytest.mark.parametrize(
    ("asked", "is_checkable"),
    [
        (request(CHOICE), True),
        (request("Calculate the total"), True),
        (request("Anything", needs=frozenset({Capability.JSON_OBJECT})), True),
        (request("Write an essay about Rome."), False),
    ],
)
def test_agreement_needs_checkable_answers(asked: RoutingRequest, is_checkable: bool) -> None:
    assert made().cascades(asked) is is_checkable
    assert made(mode="verifier").cascades(asked)


def test_two_that_agree_are_taken() -> None:
    strategy, asked = made(), request(CHOICE)
    assert not strategy.accept(asked, answers("B"))
    assert not strategy.accept(asked, answers("B", "A"))
    assert strategy.accept(asked, answers("B", "The answer is (B)."))


def test_any_earlier_answer_may_be_confirmed() -> None:
    strategy, asked = made(max_calls=4), request(CHOICE)
    assert not strategy.accept(asked, answers("A", "B", "C"))
    assert strategy.accept(asked, answers("A", "B", "A"))


def test_numbers_agree_by_value() -> None:
    strategy, asked = made(), request("Calculate the total of 3 and 4.")
    long = "First 3, then 4. " * 10
    assert strategy.accept(asked, answers("7", f"{long} The total is 7.0"))
    assert not strategy.accept(asked, answers("7", f"{long} The total is 8"))


def test_last_answer_is_always_taken() -> None:
    assert made(max_calls=3).accept(request(CHOICE), answers("A", "B", ""))
    assert not made(max_calls=4).accept(request(CHOICE), answers("A", "B", ""))


def test_refusals_that_agree_are_not_taken() -> None:
    assert not made().accept(request(CHOICE), answers("I cannot say.", "I cannot say."))


def test_verifier_takes_the_first_usable_answer() -> None:
    strategy = made(mode="verifier")
    asked = request("Give JSON", needs=frozenset({Capability.JSON_OBJECT}))
    assert not strategy.accept(asked, answers("no JSON"))
    assert strategy.accept(asked, answers("no JSON", '{"a": 1}'))
    assert strategy.accept(request("Tell me"), answers("Something"))


def test_tool_calls_are_taken() -> None:
    called = [(CHEAP, {"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]})]
    assert made().accept(request(CHOICE), called)


def test_explanation_names_the_mode() -> None:
    assert made(max_calls=2).explain(request(CHOICE)) == "cascade by agreement, at most 2 calls"


@pytest.mark.parametrize("calls", [1, 6])
def test_calls_are_bounded(calls: int) -> None:
    with pytest.raises(ValidationError):
        CascadeStrategy.Options(max_calls=calls)
