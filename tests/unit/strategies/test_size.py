from __future__ import annotations

import pytest

from routeiq.strategies.size import LargestStrategy, SmallestStrategy
from routeiq.testing import StrategyCheck, strategy_checks
from tests.support.routing import candidate, deployment, facts, request

POOL = [
    candidate("", of=deployment("big", model="llama-70b")),
    candidate("", of=deployment("small", model="llama-8b")),
    candidate("", of=deployment("mixture", model="mixtral-8x7b")),
]


def test_smallest_and_largest_by_parameters() -> None:
    smallest = SmallestStrategy().score(request(), POOL)
    largest = LargestStrategy().score(request(), POOL)
    assert sorted(range(3), key=smallest.__getitem__, reverse=True) == [1, 2, 0]
    assert sorted(range(3), key=largest.__getitem__, reverse=True) == [0, 2, 1]


def test_price_stands_in_for_a_size_that_is_not_told() -> None:
    pool = [
        candidate("", of=deployment("p", model="x", facts=facts((15.0, 60.0)))),
        candidate("", of=deployment("q", model="llama-8b", facts=facts((90.0, 90.0)))),
    ]
    scores = LargestStrategy().score(request(), pool)
    assert scores[0] > scores[1]


def test_declared_quality_is_no_size() -> None:
    pool = [
        candidate("", of=deployment("p", model="x-8b", facts=facts(quality=0.99))),
        candidate("", of=deployment("q", model="y", facts=facts((5.0, 5.0), quality=0.1))),
    ]
    assert SmallestStrategy().score(request(), pool)[0] > -0.6


def test_equals_go_to_the_cheaper_one() -> None:
    pool = [candidate("a", cost_usd=0.2), candidate("b", cost_usd=0.1)]
    for strategy in (SmallestStrategy(), LargestStrategy()):
        scores = strategy.score(request(), pool)
        assert scores[1] > scores[0]


def test_explanations() -> None:
    assert SmallestStrategy().explain(request()) == "the smallest model"
    assert LargestStrategy().explain(request()) == "the largest model"


@pytest.mark.parametrize("check", strategy_checks())
@pytest.mark.parametrize("strategy", [SmallestStrategy, LargestStrategy])
def test_contract(strategy: type[SmallestStrategy], check: StrategyCheck) -> None:
    check(strategy)
