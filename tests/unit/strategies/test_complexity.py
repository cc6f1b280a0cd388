from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.strategies.complexity import (
    EASIEST,
    UNPRICED_QUALITY,
    ComplexityStrategy,
    assess,
    quality,
)
from routeiq.strategies.lexicon import LEXICON, SUBSTRINGS
from routeiq.types import Capability, LoadContext, ModelFacts, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, deployment, facts, request

NEEDS = Capability


def difficulty(text: str, **more: Any) -> float:
    return assess(request(text, **more))[0]


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Hi!", ("simple task",)),
        ("What is the capital of France?", ()),
        ("Prove it.", ("reasoning words",)),
        ("Beweise das.", ("reasoning words",)),
        ("Démontre-le : démontre.", ("reasoning words",)),
        ("Docházka? Докажи!", ("reasoning words",)),
        ("证明根号2是无理数", ("reasoning words",)),
        ("確率を計算してください", ("maths",)),
        ("Solve x^2 = 4", ("maths",)),
        ("```\nx\n```", ("code",)),
        ("Refactor this, please", ("code",)),
        ("Do it step by step", ("several steps",)),
        ("translate: cat", ("simple task",)),
        ("a, " * 10, ("many clauses",)),
        ("word " * 60, ("length",)),
    ],
)
def test_signs_are_seen_in_several_languages(text: str, signs: tuple[str, ...]) -> None:
    assert assess(request(text))[1] == signs


def test_difficulty_is_the_sum_of_the_signs() -> None:
    assert difficulty("Prove it.") == pytest.approx(0.40)
    assert difficulty("Prove it, derive it") == pytest.approx(0.40 * 1.5 + 0.02)
    assert difficulty("x" * 4096) == pytest.approx(0.45)
    assert difficulty("x" * 362) == pytest.approx(0.225, abs=1e-3)  # the logarithmic middle
    assert difficulty("Hi!") == EASIEST


def test_what_the_request_asks_for_adds_difficulty() -> None:
    needs = frozenset({NEEDS.REASONING, NEEDS.TOOLS, NEEDS.JSON_SCHEMA, NEEDS.VISION})
    asked = RoutingRequest(
        id="r", operation="chat", model="auto", text="Prove it.", needs=needs, turns=4
    )
    found, signs = assess(asked)
    assert found == pytest.approx(0.40 + 0.30 + 0.05 + 0.05 + 0.05)
    assert signs == (
        "reasoning words",
        "long conversation",
        "reasoning asked for",
        "tools",
        "strict format",
    )


def test_words_are_looked_for_at_both_ends_of_a_long_text() -> None:
    filler = "word " * 500
    assert "reasoning words" in assess(request(f"Prove this. {filler}"))[1]
    assert "reasoning words" in assess(request(f"{filler} Prove this."))[1]
    assert "reasoning words" not in assess(request(f"{filler} Prove this. {filler}"))[1]


@given(st.text(max_size=300))
def test_difficulty_is_always_between_its_bounds(text: str) -> None:
    assert EASIEST <= difficulty(text) <= 1.0


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (facts((0.15, 0.6)), 0.598),
        (facts((2.0, 8.0)), 0.795),
        (facts((15.0, 60.0)), 0.948),
        (facts((1.0, 1.0)), 0.70),
        (facts((1e-5, 1e-5)), 0.30),
        (facts((900.0, 900.0)), 0.97),
        (facts((0.0, 0.0)), UNPRICED_QUALITY),
        (facts(), UNPRICED_QUALITY),
        (facts(input_usd_per_token=1.0), UNPRICED_QUALITY),
        (facts((15.0, 60.0), quality=0.2), 0.2),
        (facts(quality=0.0), 0.001),
        (facts(quality=1.0), 0.999),
    ],
)
def test_quality_is_declared_or_a_prior_from_the_price(known: ModelFacts, expected: float) -> None:
    assert quality(known) == pytest.approx(expected, abs=1e-3)


def test_predicted_quality_is_quality_to_the_power_of_steps() -> None:
    strategy = ComplexityStrategy()
    medium = "Prove it. Step by step" + "," * 0  # 0.40 + 0.15
    steps = 4 * difficulty(medium) ** 2
    scores = strategy.score(request(medium), [candidate("x", of=CHEAP), candidate("y", of=STRONG)])
    assert scores == pytest.approx([quality(CHEAP.facts) ** steps, quality(STRONG.facts) ** steps])


def test_weaker_models_fall_faster() -> None:
    strategy = ComplexityStrategy()
    pool = [candidate("", of=each) for each in (CHEAP, MIDDLE, STRONG)]
    easy = strategy.score(request("Hi"), pool)
    hard = strategy.score(request("Prove and derive, justify: solve the integral"), pool)
    drops = [before - after for before, after in zip(easy, hard, strict=True)]
    assert drops == sorted(drops, reverse=True)
    assert list(hard) == sorted(hard)


def test_qualities_are_looked_up_once_but_wildcards_are_not_remembered() -> None:
    strategy = ComplexityStrategy()
    wild = deployment("w", "openai/*", model="*")
    strategy.load(LoadContext(deployments=(CHEAP, wild), models_path=""))
    concrete = deployment("w", "openai/x", model="x", facts=facts(quality=0.9))
    scores = strategy.score(request("Prove it."), [candidate("", of=concrete)])
    assert scores == pytest.approx([0.9 ** (4 * 0.4**2)])


def test_explanation_names_the_difficulty_and_the_signs() -> None:
    strategy = ComplexityStrategy()
    assert strategy.explain(request("Prove it.")) == "difficulty 0.40 (reasoning words)"
    assert strategy.explain(request("Why?")) == "difficulty 0.05 (short and plain)"


def test_lexicon_can_match() -> None:
    assert all(word == word.lower() and not set(word) & set(".,:;?!() ") for word in LEXICON)
    assert set(SUBSTRINGS[True]) < set(SUBSTRINGS[False])
