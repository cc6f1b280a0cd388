from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.config.section import BUILTIN_PROFILES, Profile
from routeiq.routing.objective import known_costs, ordered, utilities
from routeiq.types import Candidate
from tests.support.routing import candidate


def pool(
    costs: Sequence[float | None], latencies: Sequence[float | None] | None = None
) -> list[Candidate]:
    return [
        candidate("x", cost_usd=cost, latency_s=latency)
        for cost, latency in zip(costs, latencies or [None] * len(costs), strict=True)
    ]


def test_utility_is_score_less_weighted_cost_less_weighted_latency() -> None:
    profile = Profile(cost_weight=20.0, latency_weight=0.1)
    assert utilities(profile, [0.9, 0.8], pool([0.01, 0.002], [2.0, 0.5])) == pytest.approx(
        [0.9 - 0.2 - 0.2, 0.8 - 0.04 - 0.05]
    )


def test_weights_of_zero_leave_the_score() -> None:
    profile = Profile(cost_weight=0.0, latency_weight=0.0)
    assert utilities(profile, [0.9, 0.8], pool([1.0, 2.0], [1.0, 2.0])) == [0.9, 0.8]


def test_unknown_cost_counts_as_the_dearest_known() -> None:
    assert known_costs([0.1, None, 0.3]) == [0.1, 0.3, 0.3]
    assert known_costs([None, None]) == [0.0, 0.0]
    assert utilities(Profile(cost_weight=1.0), [0.5, 0.5], pool([None, 0.2])) == [0.3, 0.3]


def test_unknown_latency_counts_as_the_lowest_known() -> None:
    profile = Profile(cost_weight=0.0, latency_weight=1.0)
    none = [None, None]
    assert utilities(profile, [1.0, 1.0], pool(none, [None, 0.25])) == [0.75, 0.75]
    assert utilities(profile, [1.0, 1.0], pool(none, none)) == [1.0, 1.0]


def test_order_is_by_utility_and_stable() -> None:
    assert ordered([0.1, 0.5, 0.5], [0.0, 0.0, 0.0], None) == ([1, 2, 0], 3)


def test_floor_puts_the_good_first_by_utility_and_the_rest_by_score() -> None:
    scores = [0.9, 0.7, 0.3, 0.5]
    values = [0.1, 0.6, 0.9, 0.2]
    assert ordered(values, scores, 0.6) == ([1, 0, 3, 2], 2)


def test_where_nobody_reaches_the_floor_the_best_score_is_taken() -> None:
    assert ordered([0.9, 0.1], [0.2, 0.4], 0.8) == ([1, 0], 0)


def test_eco_takes_the_cheapest_that_is_good_enough() -> None:
    eco = BUILTIN_PROFILES["eco"]
    scores, costs = [0.95, 0.7, 0.4], [0.016, 0.002, 0.0002]
    values = utilities(eco, scores, pool(costs))
    assert ordered(values, scores, eco.min_quality)[0] == [1, 0, 2]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 1)), min_size=1, max_size=20),
    st.none() | st.floats(0, 1),
)
def test_order_is_a_permutation_with_the_good_in_front(
    pairs: list[tuple[float, float]], floor: float | None
) -> None:
    scores = [score for score, _ in pairs]
    order, good = ordered([value for _, value in pairs], scores, floor)
    assert sorted(order) == list(range(len(pairs)))
    if floor is not None:
        assert all(scores[index] >= floor for index in order[:good])
        assert all(scores[index] < floor for index in order[good:])
