"""The cascade over HTTP: who is asked, who answers, what it costs, and what it says about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import TOOL, answered_by, chat, decision_of
from tests.integration.learned import feed, report, usd
from tests.integration.provider import COST_USD, Provider, scripted_provider
from tests.support.http import Answer
from tests.support.processes import Gateway

FACTORS = {"cheap": 1.0, "middle": 3.0, "strong": 20.0}
QUALITIES = {"cheap": 0.3, "middle": 0.5, "strong": 0.95}
CHOICE = "Which planet is the largest?\nA) Mars\nB) Jupiter\nC) Venus\nD) Earth"
JSON = {"response_format": {"type": "json_object"}}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with scripted_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(start: StartGateway, provider: Provider) -> Gateway:
    """Two groups over three models: `agree` and `check`."""
    entries = [provider.entry(name, FACTORS[name], QUALITIES[name]) for name in FACTORS]
    groups = {
        name: {
            "models": list(FACTORS),
            "strategy": {"name": "cascade", "options": {"mode": mode}},
        }
        for name, mode in (("agree", "agreement"), ("check", "verifier"))
    }
    section = {"groups": groups, "resilience": {"backoff_base_s": 0.01}}
    return start(
        {"model_list": entries, "routeiq": section},
        env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"},
    )


def text_of(answer: Answer) -> str:
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def cost_of(*models: str) -> float:
    return sum(FACTORS[model] for model in models) * COST_USD


def assert_answered(
    gateway: Gateway, provider: Provider, answer: Answer, by: str, asked: list[str], paid: list[str]
) -> None:
    """Headers, record and provider tell the same story."""
    assert answered_by(answer) == by
    assert text_of(answer) == provider.says[by]
    assert provider.models_asked() == asked
    assert answer.headers["x-routeiq-attempts"] == str(len(asked))
    assert usd(answer) == pytest.approx(cost_of(*paid), rel=1e-6)
    record = decision_of(gateway, answer)
    assert record["model"] == by
    assert record["cost_usd"] == pytest.approx(cost_of(*paid))
    assert [one["deployment"] for one in record["attempts_made"]] == asked


@pytest.mark.parametrize(
    ("says", "asked"),
    [
        ({"cheap": "B", "middle": "The answer is B."}, ["cheap", "middle"]),
        ({"cheap": "A", "middle": "B", "strong": "B"}, ["cheap", "middle", "strong"]),
        ({"cheap": "A", "middle": "B", "strong": "C"}, ["cheap", "middle", "strong"]),
        ({"cheap": "", "middle": "B", "strong": "B"}, ["cheap", "middle", "strong"]),
    ],
    ids=["two agree", "the third agrees", "nobody agrees", "an empty answer agrees with none"],
)
def test_agreement_asks_until_two_say_the_same(
    gateway: Gateway, provider: Provider, says: Mapping[str, str], asked: list[str]
) -> None:
    provider.expect(says)
    answer = chat(gateway, "agree", CHOICE)
    assert_answered(gateway, provider, answer, asked[-1], asked, asked)
    assert f"escalated past {len(asked) - 1} answer" in answer.headers["x-routeiq-reason"]
    assert "cascade by agreement" in answer.headers["x-routeiq-reason"]


def test_a_cheap_answer_that_passes_the_check_costs_one_call(
    gateway: Gateway, provider: Provider
) -> None:
    provider.expect({"cheap": '{"planet": "Jupiter"}'})
    answer = chat(gateway, "check", "As JSON.", **JSON)
    assert_answered(gateway, provider, answer, "cheap", ["cheap"], ["cheap"])
    assert "escalated" not in answer.headers["x-routeiq-reason"]


@pytest.mark.parametrize("cheap", ["", "no JSON", "I'm sorry, I cannot help with that.", "[1, 2"])
def test_a_cheap_answer_that_fails_the_check_escalates(
    gateway: Gateway, provider: Provider, cheap: str
) -> None:
    provider.expect({"cheap": cheap, "middle": '{"planet": "Jupiter"}'})
    answer = chat(gateway, "check", "As JSON.", **JSON)
    assert_answered(gateway, provider, answer, "middle", ["cheap", "middle"], ["cheap", "middle"])
    assert "escalated past 1 answer;" in answer.headers["x-routeiq-reason"]


def test_a_stronger_model_that_fails_returns_the_cheaper_answer(
    gateway: Gateway, provider: Provider
) -> None:
    provider.expect({"cheap": "A", "middle": 500})
    answer = chat(gateway, "agree", CHOICE)
    assert_answered(gateway, provider, answer, "cheap", ["cheap", "middle"], ["cheap"])
    assert "escalated" not in answer.headers["x-routeiq-reason"]


def test_the_best_answer_so_far_is_returned_when_the_last_model_fails(
    gateway: Gateway, provider: Provider
) -> None:
    provider.expect({"cheap": "A", "middle": "B", "strong": 503})
    answer = chat(gateway, "agree", CHOICE)
    asked = ["cheap", "middle", "strong"]
    assert_answered(gateway, provider, answer, "middle", asked, ["cheap", "middle"])


def test_a_cheap_model_that_fails_is_a_plain_fallback(gateway: Gateway, provider: Provider) -> None:
    provider.expect({"cheap": 500, "middle": '{"planet": "Jupiter"}'})
    answer = chat(gateway, "check", "As JSON.", **JSON)
    assert_answered(gateway, provider, answer, "middle", ["cheap", "middle"], ["middle"])
    assert "fallback from cheap" in answer.headers["x-routeiq-reason"]


def test_a_stream_is_not_cascaded(gateway: Gateway, provider: Provider) -> None:
    provider.expect({"cheap": "", "middle": "", "strong": ""})
    answer = chat(gateway, "agree", CHOICE, stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert len(provider.asked) == 1
    assert "not cascaded" in answer.headers["x-routeiq-reason"]


@pytest.mark.parametrize(
    ("group", "text", "fields"),
    [
        ("agree", "Write me a poem about the sea and its many moods.", {}),
        ("agree", CHOICE, {"n": 2}),
        ("agree", CHOICE, {"tools": [TOOL]}),
        ("check", "As JSON.", {**JSON, "tools": [TOOL]}),
    ],
    ids=["prose", "several choices", "tools", "tools and JSON"],
)
def test_what_cannot_be_checked_is_answered_at_once(
    gateway: Gateway, provider: Provider, group: str, text: str, fields: dict[str, Any]
) -> None:
    provider.expect({"cheap": "", "middle": "", "strong": ""})
    answer = chat(gateway, group, text, **fields)
    assert answer.status == 200
    assert len(provider.asked) == 1
    assert "not cascaded" in answer.headers["x-routeiq-reason"]


def test_every_model_gets_the_request_under_its_own_name(
    gateway: Gateway, provider: Provider
) -> None:
    provider.expect({"cheap": "A", "middle": "B", "strong": "B"})
    chat(gateway, "agree", CHOICE, temperature=0.5)
    bodies = [{**body, "model": ""} for body in provider.asked]
    assert len(bodies) == 3
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["temperature"] == 0.5


def test_feedback_after_an_escalation_is_kept(gateway: Gateway, provider: Provider) -> None:
    provider.expect({"cheap": "A", "middle": "B", "strong": "B"})
    answer = chat(gateway, "agree", CHOICE)
    feed(gateway, answer, 0.5)
    assert decision_of(gateway, answer)["feedback"] == 0.5


def test_nothing_failed_in_the_strategy(gateway: Gateway, provider: Provider) -> None:
    provider.expect({"cheap": "A", "middle": "B", "strong": "B"})
    chat(gateway, "agree", CHOICE)
    assert report(gateway)["failures"] == {}
