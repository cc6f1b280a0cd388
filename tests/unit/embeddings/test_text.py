from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.embeddings.text import EDGE, GIST, TEXT_LIMIT, bounded, edges, gist, question
from routeiq.routing.request import TEXT_LIMIT as ROUTING_LIMIT
from routeiq.routing.request import parse_request

SHOTS = "Q: What is one and one, written as a digit?\nA: 2\n\nQ: What is two and two?\nA: 4\n\n"


def test_a_plain_question_stays_as_it_is() -> None:
    text = "Explain: why is the sky blue? Answer: in one sentence, with an example please."
    assert question(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHOTS + "Q: Why is the sky blue?\nA:", "Why is the sky blue?\nA:"),
        (SHOTS + "Q: Why is the sky blue?", "Why is the sky blue?"),
        (SHOTS + "Q:", "What is two and two?\nA: 4\n\nQ:"),
        (
            "Question: How many legs has a spider, of the usual kind?\nAnswer: eight\n"
            "Question: How many legs has a bee?\nAnswer:",
            "How many legs has a bee?\nAnswer:",
        ),
        (
            "Answer these.\n\n**Question 1:** How deep is the sea, in metres?\n**Answer 1:** deep\n\n"
            "**Question 2:** How high is the sky?\n**Answer 2:**",
            "How high is the sky?\n**Answer 2:**",
        ),
        (
            "Problem: Add these numbers: 3, 4 and 5, step by step.\nSolution: 12\n"
            "Problem: Prove it.",
            "Prove it.",
        ),
        (
            "问题:一加一等于几?" * 8 + "\n答案:二\n问题:天空为什么是蓝色的?\n答案:",
            "天空为什么是蓝色的?\n答案:",
        ),
    ],
)
def test_few_shot_prefixes_are_dropped(text: str, expected: str) -> None:
    assert question(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Q: one question only, without any example before it, and it is a long one\nA:",
        "Q: two questions at once, this is the first of them?\nQ: and this the second one?\nA:",
        "Which is right about the holder of the privilege?\nA: the judge\nB: the client\nC: nobody\nAnswer:",
        "The log says error: question: not found and then answer: none, question: again. What now?",
    ],
)
def test_what_only_looks_like_examples_stays(text: str) -> None:
    assert question(text) == text


def test_the_limit_is_that_of_the_router_and_cutting_twice_changes_nothing() -> None:
    assert TEXT_LIMIT == ROUTING_LIMIT
    for length in (TEXT_LIMIT - 1, TEXT_LIMIT, TEXT_LIMIT + 1, TEXT_LIMIT + 2, 3 * TEXT_LIMIT):
        text = "".join(chr(33 + i % 90) for i in range(length))
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        served = parse_request("chat", body, id="r").text
        assert bounded(text) == served
        assert bounded(served) == served


def test_of_long_questions_both_ends_are_embedded() -> None:
    text = "start" + "x" * 5000 + "end"
    kept = edges(question(text))
    assert kept.startswith("start")
    assert kept.endswith("end")
    assert len(kept) == 2 * EDGE + 1
    assert edges("short") == "short"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("", ""),
        ("  You are terse.  ", "You are terse."),
        ("You are a tutor. " + "Be kind and patient " * 20, "You are a tutor."),
        ("a" * 1000, "a" * GIST),
        ("你是老师。" + "很" * 400, "你是老师。"),
    ],
)
def test_the_gist_of_a_system_prompt_is_its_first_sentences(system: str, expected: str) -> None:
    assert gist(system) == expected


@given(st.text(max_size=300), st.integers(0, 40))
def test_any_text_gives_a_question_within_the_limit(text: str, times: int) -> None:
    asked = question(text * times)
    assert len(asked) <= TEXT_LIMIT + 1
    assert len(gist(text * times)) <= GIST


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["Q:\n", "Q: a\nA: b\n", " \t", "#", "*", "\n", "Q:A:"])
def test_hostile_texts_are_linear(unit: str) -> None:
    assert len(question(unit * 1_000_000)) <= TEXT_LIMIT + 1
