from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.strategies.prior import (
    FULL,
    LIMIT,
    WEIGHTS,
    PriorStrategy,
    assess,
    difficulty,
    prior_score,
)
from routeiq.strategies.quality import quality
from routeiq.types import Capability, LoadContext, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, deployment, facts, request


def hard(text: str, **more: Any) -> float:
    return difficulty(request(text, **more))


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Hi!", ("simple task",)),
        ("What is the capital of France?", ()),
        ("Prove it.", ("reasoning words",)),
        ("Beweise das.", ("reasoning words",)),
        ("Démontre-le : démontre.", ("reasoning words",)),
        ("Докажи!", ("reasoning words",)),
        ("证明根号是无理数", ("reasoning words",)),
        ("أثبت ذلك", ("reasoning words",)),
        ("सिद्ध करो", ("reasoning words",)),
        ("พิสูจน์", ("reasoning words",)),
        ("증명해", ("reasoning words",)),
        ("確率を計算してください", ("maths",)),
        ("Solve it", ("maths",)),
        ("$\\frac{a}{b}$", ("maths",)),
        ("```\nx\n```", ("code",)),
        ("Refactor this", ("code",)),
        ("twice as much; half left", ("related quantities",)),
        ("Which is not so?", ("negation",)),
        ("translate: cat", ("simple task",)),
        ("Write a poem", ("open-ended writing",)),
        ("a, " * 10, ("many clauses",)),
        ("So. " * 8, ("many sentences",)),
        ("1 3 4 5 6", ("numbers",)),
        ("word " * 60, ("length",)),
    ],
)
def test_signs_are_seen_in_several_languages(text: str, signs: tuple[str, ...]) -> None:
    assert assess(request(text))[1] == signs


@pytest.mark.parametrize(
    ("text", "is_seen"),
    [
        ("Scenario 1 | He lied. Scenario 2 | He ran.", True),
        ("Statement 1 | x. Statement 2 | y.", True),
        ("I. one II. two III. three", True),
        ("Do:\n1. this\n2. that", True),
        ("Do:\na) this\nb) that", True),
        ("He has 1 apple and 2 pears", False),
        ("Which?\nA. this\nB. that", False),
        ("(a) nothing (b) at all", False),
    ],
)
def test_several_cases_are_told_from_answers_and_quantities(text: str, is_seen: bool) -> None:
    assert ("several cases at once" in assess(request(text))[1]) is is_seen


def test_difficulty_is_the_sum_of_the_signs() -> None:
    assert hard("Prove it.") == pytest.approx(0.20)
    assert hard("Prove it; derive it") == pytest.approx(0.40)
    assert hard("Prove, derive, deduce") == pytest.approx(0.40 + 0.10 * 0.39624, abs=1e-4)
    assert hard("x" * 4000) == pytest.approx(0.5 * 6.96578 / 7, abs=1e-4)  # log2(4000 / 32) of 7
    assert hard("x" * 362) == pytest.approx(0.25, abs=1e-3)  # the logarithmic middle
    assert hard("Hi!") == 0.0


def test_a_wide_character_is_worth_two_and_a_half() -> None:
    assert hard("字" * 100) == pytest.approx(hard("x" * 250))
    assert hard("ж" * 100) == pytest.approx(hard("x" * 100))


def test_languages_are_about_as_hard_as_each_other() -> None:
    english = (
        "A train runs 120 km in 2 hours. How much time does it need for half of it, twice as fast?"
    )
    chinese = "一列火车两小时行驶120公里。行驶一半的路程,以两倍的速度需要多少时间?请计算平均时间。"
    russian = "Поезд проходит 120 км за 2 часа. Сколько времени нужно на половину пути при скорости вдвое больше?"
    values = [hard(text) for text in (english, chinese, russian)]
    assert max(values) - min(values) < 0.15
    assert min(values) > 0.2


def test_what_the_request_asks_for_adds_difficulty() -> None:
    needs = frozenset(
        {Capability.REASONING, Capability.TOOLS, Capability.JSON_SCHEMA, Capability.VISION}
    )
    asked = RoutingRequest(
        id="r", operation="chat", model="auto", text="Prove it.", needs=needs, turns=4
    )
    found, signs = assess(asked)
    assert found == pytest.approx(0.20 + 0.30 + 0.05 + 0.05 + 0.05)
    assert signs[:2] == ("reasoning asked for", "reasoning words")
    assert set(signs[2:]) == {"tools", "strict format", "long conversation"}


def test_middle_of_a_very_long_text_is_not_looked_at() -> None:
    filler = "word " * LIMIT
    assert "reasoning words" in assess(request(f"Prove this. {filler}"))[1]
    assert "reasoning words" in assess(request(f"{filler} Prove this."))[1]
    assert "reasoning words" not in assess(request(f"{filler} Prove this. {filler}"))[1]


@given(st.text(max_size=300))
def test_difficulty_is_always_between_its_bounds(text: str) -> None:
    assert 0.0 <= hard(text) <= 1.0


def test_every_word_sign_has_a_weight() -> None:
    assert set(FULL) < set(WEIGHTS)


@pytest.mark.parametrize(
    ("quality", "difficulty", "expected"),
    [
        (0.5, 0.0, 1 - 0.03 * 0.875),
        (0.5, 1.0, 0.125),
        (0.9, 0.5, 1 - 0.515 * 0.271),
        (1.0, 1.0, 1.0),
    ],
)
def test_predicted_quality_by_hand(quality: float, difficulty: float, expected: float) -> None:
    assert prior_score(quality, difficulty) == pytest.approx(expected)


def test_gap_between_models_grows_with_difficulty_for_every_pair() -> None:
    grid = [step / 100 for step in range(101)]
    qualities = [0.3, 0.4, 0.55, 0.7, 0.85, 0.97]
    for weak, strong in ((a, b) for a in qualities for b in qualities if a < b):
        gaps = [prior_score(strong, d) - prior_score(weak, d) for d in grid]
        assert gaps[0] > 0.0
        assert all(later > earlier for earlier, later in pairwise(gaps)), (weak, strong)


def test_scores_are_those_of_the_difficulty() -> None:
    pool = [candidate("", of=each) for each in (CHEAP, MIDDLE, STRONG)]
    scores = PriorStrategy().score(request("Prove it."), pool)
    expected = [prior_score(quality(each.deployment.facts), 0.20) for each in pool]
    assert scores == pytest.approx(expected)
    assert list(scores) == sorted(scores)


def test_qualities_are_looked_up_once_but_wildcards_are_not_remembered() -> None:
    strategy = PriorStrategy()
    wild = deployment("w", "openai/*", model="*")
    strategy.load(LoadContext(deployments=(CHEAP, wild), models_path=""))
    concrete = deployment("w", "openai/x", model="x", facts=facts(quality=0.9))
    other = deployment("cheap", facts=facts(quality=0.1))  # same id: what `load` saw counts
    assert strategy.quality_of(concrete) == 0.9
    assert strategy.quality_of(other) == quality(CHEAP.facts)


def test_names_count_where_nothing_else_is_known() -> None:
    strategy = PriorStrategy()
    small, large = deployment("a", model="llama-3-8b"), deployment("b", model="llama-3-70b")
    assert strategy.quality_of(small) < strategy.quality_of(large)


def test_explanation_names_the_difficulty_and_the_signs() -> None:
    strategy = PriorStrategy()
    assert strategy.explain(request("Prove it.")) == "difficulty 0.20 (reasoning words)"
    assert strategy.explain(request("Why?")) == "difficulty 0.00 (short and plain)"
