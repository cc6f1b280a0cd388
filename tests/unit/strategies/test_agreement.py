from __future__ import annotations

from typing import Any

import pytest

from routeiq.strategies.agreement import (
    agree,
    answer_text,
    final_answer,
    has_tool_calls,
    usable,
)
from routeiq.types import Capability
from tests.support.routing import request


def body(text: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text, **message}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris", "paris"),
        ("  paris. ", "paris"),
        ("42", "42"),
        ("42.0", "42"),
        ("1,234.50", "1234.5"),
        ("$1,000", "1000"),
        ("15%", "15"),
        ("B", "choice B"),
        ("(B)", "choice B"),
        ("**C**", "choice C"),
        ("B. Because it is so", "choice B"),
        ("The answer is (D).", "choice D"),
        ("Long reasoning. " * 20 + "So the correct answer is **A**.", "choice A"),
        ("Die Antwort ist C", "choice C"),
        ("答案:B", "choice B"),
        ("A dog", "a dog"),
        ("The answer, I think", "the answer i think"),
        ("So \\boxed{12} it is", "12"),
        ("work ...\n#### 1,080", "1080"),
        ('{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        ('```json\n{"a": 2}\n```', '{"a":2}'),
        ("[broken", "broken"),
        ("", None),
        ("...", None),
        ("word " * 50, None),
    ],
)
def test_what_an_answer_comes_down_to(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He has 3 left. " * 10 + "So the total is 1,240 apples.", "1240"),
        ("-3.50 is it", "-3.5"),
        ("nothing here", "nothing here"),
        ("The answer is B, 12 m", "choice B"),
    ],
)
def test_last_number_counts_where_numbers_are_asked_for(text: str, answer: str) -> None:
    assert final_answer(text, numeric=True) == answer


def test_agreement() -> None:
    assert agree("It is B. So the answer is B", "(b)".upper())
    assert agree("x = 1/2, so 0.50", "0.5", numeric=True)
    assert not agree("41", "42")
    assert not agree("prose " * 50, "prose " * 50)
    assert not agree("", "")


def test_texts_of_all_formats() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]
    response = {"output": [{"type": "reasoning"}, {"type": "message", "content": parts}]}
    assert answer_text(body("hi")) == "hi"
    assert answer_text(body(parts)) == "ab"
    assert answer_text({"choices": [{"text": "old"}]}) == "old"
    assert answer_text(response) == "ab"
    assert answer_text(body(None)) == ""
    assert answer_text({}) == ""
    assert answer_text({"choices": [], "output": "x"}) == ""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (body("Paris"), True),
        (body(""), False),
        (body(None), False),
        (body("Par", finish="length"), False),
        (body("I'm sorry, but I can't help with that."), False),
        (body("I cannot do that"), False),
        (body("Es tut mir leid, das geht nicht"), False),
        (body("抱歉,我不能"), False),
        (body("I can see that x = 2"), True),
        ({"output": [], "status": "incomplete"}, False),
        (body(None, finish="tool_calls", tool_calls=[{"id": "1"}]), True),
    ],
)
def test_usable(answer: dict[str, Any], expected: bool) -> None:
    assert usable(request(), answer) is expected


@pytest.mark.parametrize("need", [Capability.JSON_OBJECT, Capability.JSON_SCHEMA])
def test_json_must_be_json_where_it_was_asked_for(need: Capability) -> None:
    asked = request(needs=frozenset({need}))
    assert usable(asked, body('{"a": 1}'))
    assert usable(asked, body('```json\n{"a": 1}\n```'))
    assert not usable(asked, body("a: 1"))
    assert not usable(asked, body('{"a": 1'))
    assert usable(request(), body('{"a": 1'))


def test_tool_calls_of_both_formats() -> None:
    assert has_tool_calls(body(None, tool_calls=[{}]))
    assert has_tool_calls({"output": [{"type": "function_call"}]})
    assert not has_tool_calls(body("x"))
    assert not has_tool_calls({"output": None})
