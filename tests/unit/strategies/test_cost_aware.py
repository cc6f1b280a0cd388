from __future__ import annotations

import pytest
from pydantic import ValidationError

from routeiq.strategies.cost_aware import CostAwareStrategy, cheapest_good
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, request

POOL = [
    candidate("", of=STRONG, cost_usd=0.02),
    candidate("", of=CHEAP, cost_usd=0.0002),
    candidate("", of=MIDDLE, cost_usd=0.002),
]


def choose(text: str, min_quality: float) -> str:
    strategy = CostAwareStrategy(CostAwareStrategy.Options(min_quality=min_quality))
    scores = strategy.score(request(text), POOL)
    return POOL[max(range(3), key=scores.__getitem__)].deployment.id


def test_cheapest_that_reaches_the_floor() -> None:
    # difficulty 0.2, so chance 0.224: 0.598 -> 0.824, 0.795 -> 0.889, 0.948 -> 0.967
    assert choose("Prove it.", 0.70) == "cheap"
    assert choose("Prove it.", 0.85) == "middle"
    assert choose("Prove it.", 0.90) == "strong"


def test_best_where_none_reaches_it() -> None:
    assert choose("Prove it.", 0.99) == "strong"


def test_harder_requests_need_better_models() -> None:
    assert choose("Hi", 0.9) == "cheap"
    assert choose("Prove and derive it: half, twice, a third; not this code", 0.7) == "strong"


def test_scores_by_hand() -> None:
    candidates = [candidate("a", cost_usd=1.0), candidate("b", cost_usd=0.5), candidate("c")]
    assert cheapest_good([0.9, 0.8, 0.7], candidates, 0.75) == pytest.approx(
        [1.1, 1.55, 0.7], abs=1e-5
    )
    assert cheapest_good([0.5, 0.6, 0.7], candidates, 0.75) == [0.5, 0.6, 0.7]


def test_unknown_cost_is_the_dearest_and_ties_go_to_the_better() -> None:
    candidates = [candidate("a", cost_usd=1.0), candidate("b")]
    scores = cheapest_good([0.8, 0.9], candidates, 0.5)
    assert scores[1] > scores[0] > 1.0
    free = cheapest_good([0.8, 0.9], [candidate("a"), candidate("b")], 0.5)
    assert free[1] > free[0] > 1.0


def test_explanation_names_the_floor() -> None:
    assert CostAwareStrategy().explain(request("Prove it.")) == (
        "difficulty 0.20 (reasoning words), the cheapest of predicted quality 0.7 or more"
    )


def test_floor_is_a_share() -> None:
    with pytest.raises(ValidationError):
        CostAwareStrategy.Options(min_quality=1.5)
