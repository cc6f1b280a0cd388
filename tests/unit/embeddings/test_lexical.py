from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.embeddings import lexical as module
from routeiq.embeddings.lexical import DIMENSION, NAMES, lexical
from routeiq.embeddings.wordpiece import Vocabulary, WordPiece
from routeiq.types import Capability, RoutingRequest

PLAIN = RoutingRequest(id="r", operation="chat", model="m")
TOKENS = WordPiece(Vocabulary.build(["a"]))


def read(text: str, request: RoutingRequest = PLAIN) -> dict[str, float]:
    return dict(zip(NAMES, lexical(text, TOKENS.split(text), request), strict=True))


def test_counts_are_scaled_as_documented() -> None:
    found = read("Add 12, 34 and\n56?")  # 18 characters, 5 words on 2 lines, 6 digits, 1 comma
    assert found["characters"] == pytest.approx(log(19) / 9)
    assert found["words"] == pytest.approx(log(6) / 7)
    assert found["word length"] == pytest.approx(14 / 5 / 10)
    assert found["lines"] == pytest.approx(log(2) / 4)
    assert found["commas"] == pytest.approx(5 * 1 / 5)
    assert found["digits"] == pytest.approx(1.0)  # 5 * 6 / 18 is beyond the scale
    assert found["capitals"] == pytest.approx(5 / 18)
    assert found["question marks"] == pytest.approx(1 / 3)
    assert found["not Latin"] == found["other script"] == 0.0


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("code", "A recipe for bread", "```\ndef f(x):\n    return x;\n```"),
        ("maths", "A recipe for bread", "\\frac{1}{2} + x^2 = 3"),
        ("maths", "A recipe for bread", "2 \u2212 3 \u2264 \u221a9"),
        ("open question", "Paris is in France", "Why is it so?"),
        ("open question", "Why?", "Explain why it is so"),
        ("open question", "Paris liegt in Frankreich", "Erkläre das bitte"),
        ("open question", "Париж во Франции", "Почему небо голубое?"),
        ("open question", "巴黎在法国", "天空为什么是蓝色的"),
        ("reasoning", "Paris is in France", "Prove it."),
        ("reasoning", "Prove it.", "Prove it and compute x"),
        ("reasoning", "Париж во Франции", "Докажи это"),
        ("reasoning", "Париж во Франции", "Найди x"),
        ("reasoning", "巴黎在法国", "证明这一点"),
        ("multiple choice", "Which?", "Which?\nA. one\nB. two\nC. three"),
        ("multiple choice", "Which?", "Which? (A) one (B) two (C) three"),
        ("format asked for", "Tell me.", "Tell me, as a table."),
        ("format asked for", "告诉我", "请用表格告诉我"),
        ("question marks", "什么", "什么?"),
    ],
)
def test_a_sign_raises_its_feature(name: str, less: str, more: str) -> None:
    assert read(more)[name] > read(less)[name]


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("turns", replace(PLAIN, turns=4)),
        ("system prompt", replace(PLAIN, system="You are terse.")),
        ("tools", replace(PLAIN, needs=frozenset({Capability.TOOLS}))),
        ("media", replace(PLAIN, needs=frozenset({Capability.VISION}))),
        ("media", replace(PLAIN, needs=frozenset({Capability.PDF}))),
        ("format asked for", replace(PLAIN, needs=frozenset({Capability.JSON_SCHEMA}))),
    ],
)
def test_what_stands_around_the_text_is_seen(name: str, request_: RoutingRequest) -> None:
    plain, found = read("Hi", PLAIN), read("Hi", request_)
    assert [n for n in NAMES if found[n] != plain[n]] == [name]
    assert 0.0 < found[name] <= 1.0


@pytest.mark.parametrize(
    ("text", "beyond", "script"),
    [
        ("plain", 0.0, 0.0),
        ("é" * 4, 1.0, 0.0),
        ("ж" * 4, 1.0, 1.0),
        ("中" * 4, 1.0, 1.0),
        ("ab中ж", 0.5, 0.5),
        ("\U0001f600abc", 0.25, 0.25),
    ],
)
def test_scripts_are_told_apart(text: str, beyond: float, script: float) -> None:
    found = read(text)
    assert (found["not Latin"], found["other script"]) == (beyond, script)


def test_dense_scripts_have_words_without_spaces() -> None:
    assert read("天空为什么是蓝色的" * 4)["words"] > read("thesky" * 6)["words"]


@given(st.text(max_size=400), st.integers(0, 100))
def test_every_feature_stays_on_its_scale(text: str, turns: int) -> None:
    request = replace(PLAIN, text=text, turns=turns, system=text)
    values = lexical(text, TOKENS.split(text), request)
    assert len(values) == DIMENSION == 20
    assert all(0.0 <= value <= 1.2 for value in values)


def test_known_words_are_spelt_as_the_tokenizer_leaves_them() -> None:
    for words, _ in module._KINDS:
        assert words
        for word in words:
            assert TOKENS.split(word.decode()) == [word]
