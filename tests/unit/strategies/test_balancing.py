"""The strategies that only order: what they prefer, and that they are fair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from routeiq.base import RoutingStrategy
from routeiq.strategies.least_busy import LeastBusyStrategy
from routeiq.strategies.lowest_cost import LowestCostStrategy
from routeiq.strategies.lowest_latency import LowestLatencyStrategy
from routeiq.strategies.random_weighted import RandomStrategy, WeightedStrategy, shares
from routeiq.strategies.round_robin import RoundRobinStrategy
from routeiq.types import Candidate
from tests.support.routing import candidate, deployment, request

REQUEST = request()


def order(strategy: RoutingStrategy, candidates: Sequence[Candidate]) -> list[str]:
    """Ids from best to worst, ties in the given order."""
    scores = strategy.score(REQUEST, candidates)
    best_first = sorted(range(len(candidates)), key=scores.__getitem__, reverse=True)
    return [candidates[index].deployment.id for index in best_first]


def three() -> list[Candidate]:
    return [candidate("a"), candidate("b"), candidate("c")]


def test_round_robin_goes_in_turn() -> None:
    strategy = RoundRobinStrategy()
    assert [order(strategy, three())[0] for _ in range(7)] == list("abcabca")


def test_round_robin_orders_the_rest_by_who_waited_longest() -> None:
    strategy = RoundRobinStrategy()
    order(strategy, three())
    assert order(strategy, three()) == ["b", "c", "a"]


def test_round_robin_takes_a_returning_candidate_next_but_once() -> None:
    strategy = RoundRobinStrategy()
    for _ in range(10):
        order(strategy, three()[:2])
    assert [order(strategy, three())[0] for _ in range(4)] == ["c", "a", "b", "c"]


@given(st.integers(1, 8), st.integers(1, 50))
def test_round_robin_is_fair_within_one(count: int, rounds: int) -> None:
    strategy = RoundRobinStrategy()
    pool = [candidate(str(index)) for index in range(count)]
    seen = Counter(order(strategy, pool)[0] for _ in range(rounds))
    assert max(seen.values()) - min(seen[each.deployment.id] for each in pool) <= 1


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=60))
def test_round_robin_never_skips_one_that_stays_for_longer_than_the_others_need(
    turns: list[set[str]],
) -> None:
    strategy = RoundRobinStrategy()
    waited: Counter[str] = Counter()
    for eligible in turns:
        pool = [candidate(name) for name in sorted(eligible)]
        chosen = order(strategy, pool)[0]
        for name in eligible:
            waited[name] = 0 if name == chosen else waited[name] + 1
        assert all(waited[name] <= 3 for name in eligible)


def test_random_is_even() -> None:
    strategy = RandomStrategy(RandomStrategy.Options(seed=3))
    seen = Counter(order(strategy, three())[0] for _ in range(3000))
    assert all(900 < seen[name] < 1100 for name in "abc")


@pytest.mark.parametrize("figure", ["weight", "rpm", "tpm"])
def test_weighted_follows_the_figures(figure: str) -> None:
    strategy = WeightedStrategy(WeightedStrategy.Options(seed=3))
    pool = [
        Candidate(deployment=deployment("a", None, **{figure: 3})),
        Candidate(deployment=deployment("b", None, **{figure: 1})),
        Candidate(deployment=deployment("none")),
    ]
    seen = Counter(tuple(order(strategy, pool)) for _ in range(4000))
    assert {ids[2] for ids in seen} == {"none"}
    assert 2850 < seen["a", "b", "none"] < 3150


def test_weight_goes_before_rpm_before_tpm() -> None:
    a, b = deployment("a", weight=2, rpm=1, tpm=1), deployment("b", rpm=9, tpm=9)
    assert shares([a, b]) == [2.0, 0.0]
    assert shares([b, deployment("c", tpm=5)]) == [9.0, 0.0]
    assert shares([deployment("c", tpm=5)]) == [5.0]
    assert shares([deployment("c", weight=0), deployment("d")]) == [1.0, 1.0]


def test_seed_repeats_and_no_seed_differs() -> None:
    def scores(seed: int | None) -> list[float]:
        return list(RandomStrategy(RandomStrategy.Options(seed=seed)).score(REQUEST, three()))

    assert scores(5) == scores(5)
    assert scores(None) != scores(None)


def test_least_busy_prefers_the_idle_and_takes_equals_in_turn() -> None:
    strategy = LeastBusyStrategy()
    pool = [
        candidate("a", in_flight=2),
        candidate("b"),
        candidate("c"),
        candidate("d", in_flight=1),
    ]
    firsts = [order(strategy, pool) for _ in range(8)]
    assert {ids[0] for ids in firsts} == {"b", "c"}
    assert all(ids[2:] == ["d", "a"] for ids in firsts)


def test_lowest_cost_counts_an_unknown_price_as_the_dearest() -> None:
    pool = [
        candidate("unknown"),
        candidate("dear", cost_usd=0.02),
        candidate("busy", cost_usd=0.001, in_flight=1),
        candidate("cheap", cost_usd=0.001),
    ]
    assert order(LowestCostStrategy(), pool) == ["cheap", "busy", "unknown", "dear"]
    assert order(LowestCostStrategy(), pool[:1]) == ["unknown"]


def test_lowest_latency_shares_between_the_equally_fast() -> None:
    strategy = LowestLatencyStrategy(LowestLatencyStrategy.Options(seed=1))
    pool = [
        candidate("slow", latency_s=2.0),
        candidate("fast", latency_s=1.0),
        candidate("near", latency_s=1.09),
    ]
    seen = [order(strategy, pool) for _ in range(200)]
    assert Counter(ids[0] for ids in seen).keys() == {"fast", "near"}
    assert {ids[2] for ids in seen} == {"slow"}


def test_lowest_latency_buffer_of_zero_takes_only_the_fastest() -> None:
    strategy = LowestLatencyStrategy(LowestLatencyStrategy.Options(buffer=0.0))
    pool = [candidate("near", latency_s=1.01), candidate("fast", latency_s=1.0)]
    assert {order(strategy, pool)[0] for _ in range(20)} == {"fast"}


def test_lowest_latency_explores_the_unmeasured_one_request_at_a_time() -> None:
    strategy = LowestLatencyStrategy()
    known = candidate("known", latency_s=0.1)
    slow = candidate("slow", latency_s=9.0)
    assert order(strategy, [known, candidate("new"), slow])[0] == "new"
    exploring = candidate("new", in_flight=1)
    assert order(strategy, [known, exploring, slow]) == ["known", "slow", "new"]


def test_options_are_strict() -> None:
    with pytest.raises(ValidationError):
        LowestLatencyStrategy.Options(buffer=-1.0)
    with pytest.raises(ValidationError):
        RoundRobinStrategy.Options.model_validate({"seed": 1})
