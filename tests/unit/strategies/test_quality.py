from __future__ import annotations

from math import log10, sqrt

import pytest

from routeiq.strategies.quality import (
    TIERS,
    UNKNOWN_QUALITY,
    parameters,
    qualities,
    quality,
    quality_of_name,
)
from routeiq.types import ModelFacts
from tests.support.routing import facts


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (facts((0.15, 0.6)), 0.598),
        (facts((2.0, 8.0)), 0.795),
        (facts((15.0, 60.0)), 0.948),
        (facts((1.0, 1.0)), 0.70),
        (facts((1e-5, 1e-5)), 0.30),
        (facts((900.0, 900.0)), 0.97),
        (facts((0.0, 0.0)), UNKNOWN_QUALITY),
        (facts(), UNKNOWN_QUALITY),
        (facts(input_usd_per_token=1.0), UNKNOWN_QUALITY),
        (facts((15.0, 60.0), quality=0.2), 0.2),
        (facts((15.0, 60.0), quality=0.2, tier="high"), 0.2),
        (facts((15.0, 60.0), tier="Small"), TIERS["small"]),
        (facts((15.0, 60.0), tier="gold"), 0.948),
        (facts(quality=0.0), 0.001),
        (facts(quality=1.0), 0.999),
    ],
)
def test_quality_is_declared_or_of_the_tier_or_a_guess_from_the_price(
    known: ModelFacts, expected: float
) -> None:
    assert quality(known) == pytest.approx(expected, abs=1e-3)


def test_name_counts_only_where_price_does_not() -> None:
    assert quality(facts((1.0, 1.0)), "tiny-1b") == pytest.approx(0.70)
    assert quality(facts((0.0, 0.0)), "tiny-1b") == pytest.approx(0.36)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mistral-7b-instruct-v0.3", 7.0),
        ("meta-llama/Meta-Llama-3_1-70B-Instruct", 70.0),
        ("llama3:405b", 405.0),
        ("qwen2.5-0.5b", 0.5),
        ("smollm-360m", 0.36),
        ("mixtral-8x7b", sqrt(0.85 * 56 * 14)),
        ("qwen3-30b-a3b", sqrt(90.0)),
        ("deepseek-r1-distill-llama-8b", 8.0),
        ("gpt-4o", None),
        ("llama-3", None),
        ("0b", None),
    ],
)
def test_parameters_in_names(name: str, billions: float | None) -> None:
    assert parameters(name) == (None if billions is None else pytest.approx(billions))


def test_parameters_go_before_words() -> None:
    assert quality_of_name("gpt-oss-mini-100b") == pytest.approx(0.36 + 0.19 * 2)


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("gpt-4.1-nano", "gpt-4.1-mini"),
        ("gpt-4o-mini", "gpt-4o"),
        ("gpt-3.5-turbo", "gpt-4-turbo"),
        ("gemini-1.5-flash", "gemini-1.5-pro"),
        ("claude-3-haiku", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet", "claude-3-opus"),
        ("o1-mini", "o1"),
        ("gpt-4-1106-preview", "gpt-5"),
        ("mistral-small", "mistral-large"),
        ("command-r", "command-r-plus"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"),
        ("gpt-5-mini", "gpt-5"),
    ],
)
def test_names_are_ordered(weaker: str, stronger: str) -> None:
    first, second = quality_of_name(weaker), quality_of_name(stronger)
    assert first is not None
    assert second is not None
    assert first < second


def test_a_name_that_says_nothing() -> None:
    assert quality_of_name("our-model") is None
    assert quality_of_name("prometheus") is None  # "pro" is only part of a word
    assert quality(ModelFacts(), "our-model") == UNKNOWN_QUALITY


def test_costs_order_models_of_unknown_names() -> None:
    found = qualities({"x": 1e-4, "y": 1e-3, "z": None})
    assert found["z"] == UNKNOWN_QUALITY
    step = 0.175 * (log10(1e-3) - log10(1e-4)) / 2  # half a decade from the middle
    assert found["x"] == pytest.approx(UNKNOWN_QUALITY - step / 2)  # mean of name and cost
    assert found["y"] == pytest.approx(UNKNOWN_QUALITY + step / 2)


def test_costs_are_relative() -> None:
    cents = qualities({"a-7b": 0.01, "b-70b": 0.1})
    dollars = qualities({"a-7b": 1.0, "b-70b": 10.0})
    assert cents == pytest.approx(dollars)


def test_one_cost_alone_says_nothing() -> None:
    assert qualities({"a-7b": 0.01, "b": None})["a-7b"] == quality_of_name("a-7b")
    assert qualities({"a-7b": 0.0, "b": 0.1})["a-7b"] == quality_of_name("a-7b")


def test_what_is_declared_is_kept() -> None:
    known = {"a": facts(quality=0.9), "b": facts(tier="low")}
    found = qualities({"a": 1e-5, "b": 1.0}, known)
    assert found == {"a": 0.9, "b": TIERS["low"]}
