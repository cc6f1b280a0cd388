from __future__ import annotations

import pytest

from routeiq.strategies.columns import blended_price, by_name, column, plain, tier_weights
from routeiq.types import ModelFacts
from tests.support.routing import deployment, facts

MODELS = ("mistralai/Mixtral-8x7B", "gpt-4o", "org-a/same", "org-b/same")


@pytest.mark.parametrize(
    ("group", "model", "provider", "expected"),
    [
        ("gpt-4o", "whatever", "openai", 1),
        ("smart", "gpt-4o", "openai", 1),
        ("smart", "GPT-4O", "openai", 1),
        ("smart", "mixtral-8x7b", "openai", 0),
        ("smart", "Mixtral-8x7B", "mistralai", 0),
        ("org-b/same", "x", "openai", 3),
        ("smart", "same", "openai", None),
        ("smart", "unheard-of", "openai", None),
    ],
)
def test_a_deployment_is_found_by_group_or_model_with_or_without_organisation(
    group: str, model: str, provider: str, expected: int | None
) -> None:
    one = deployment("d", group, model=model)
    assert one.provider == "openai"
    assert column(one, by_name(MODELS)) == expected


def test_plain_drops_organisation_and_case() -> None:
    assert plain("a/b/Model-X") == "model-x"


def test_the_price_is_three_parts_input_to_one_part_output() -> None:
    assert blended_price(facts((1.0, 5.0))) == pytest.approx(2.0)
    assert blended_price(facts((0.0, 0.0))) is None
    assert blended_price(ModelFacts()) is None


def test_a_new_model_is_judged_by_those_of_its_price_tier() -> None:
    weights = tier_weights(1.0, [1.1, 0.9, 30.0, None])
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] == pytest.approx(0.5, abs=0.01)
    assert weights[2] < 0.001
    assert weights[3] == 0.0


def test_far_from_every_tier_the_nearest_counts() -> None:
    weights = tier_weights(1000.0, [0.1, 1.0])
    assert weights[1] > 0.99


@pytest.mark.parametrize(("price", "prices"), [(None, [1.0, 2.0]), (1.0, [None, None])])
def test_without_prices_all_count_the_same(price: float | None, prices: list[float | None]) -> None:
    assert tier_weights(price, prices) == [0.5, 0.5]
