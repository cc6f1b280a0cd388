from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from routeiq.base import RoutingStrategy
from routeiq.config.section import Guarantee
from routeiq.routing.promise import guaranteed
from routeiq.types import Candidate, Margin, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate

PROMISE = Guarantee(reference="strong", epsilon=0.02, delta=0.1)
HEADS = [candidate("", of=each) for each in (CHEAP, MIDDLE, STRONG)]
SCORES = [0.70, 0.78, 0.80]
BY_COST = [0, 1, 2]
ALL = frozenset({"cheap", "middle", "strong"})


class Certified(RoutingStrategy):
    """Has one certificate, or none, and notes what it was asked for."""

    name: ClassVar[str] = "certified"

    def __init__(self, margin: Margin | None) -> None:
        super().__init__()
        self.margin = margin
        self.asked: tuple[str, float, float, float | None] | None = None

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return SCORES

    def certified_margin(
        self, reference: str, epsilon: float, delta: float, cost_weight: float | None
    ) -> Margin | None:
        self.asked = (reference, epsilon, delta, cost_weight)
        return self.margin


def keep(
    margin: Margin | None,
    heads: Sequence[Candidate] = HEADS,
    *,
    order: Sequence[int] = BY_COST,
    cost_weight: float | None = 20.0,
) -> tuple[list[int], str]:
    order, _, said = guaranteed(
        PROMISE, Certified(margin), heads, SCORES[: len(heads)], list(order), cost_weight
    )
    return order, said


def test_those_within_the_margin_go_first_in_the_objectives_order() -> None:
    found, said = keep(Margin(tau=0.05, deployments=ALL))
    assert found == [1, 2, 0]
    assert said == "; certified no worse than strong by more than 0.02"


def test_the_objective_may_still_prefer_the_reference() -> None:
    assert keep(Margin(tau=0.05, deployments=ALL), order=[2, 1, 0])[0] == [2, 1, 0]


def test_a_wide_margin_leaves_the_objectives_order() -> None:
    assert keep(Margin(tau=0.5, deployments=ALL))[0] == BY_COST


def test_without_a_certificate_the_reference_answers_and_the_rest_follow_by_score() -> None:
    found, said = keep(None)
    assert found == [2, 1, 0]
    assert said == "; nothing is certified against strong, so it answers itself"


def test_models_that_the_certificate_does_not_cover_are_fallbacks_only() -> None:
    assert keep(Margin(tau=0.5, deployments=frozenset({"cheap", "strong"})))[0] == [0, 2, 1]
    assert keep(Margin(tau=0.5, deployments=frozenset()))[0] == [2, 1, 0]


def test_the_reference_may_answer_whether_or_not_it_is_among_the_certified() -> None:
    margin = Margin(tau=0.5, deployments=frozenset({"cheap"}))
    assert keep(margin, order=[2, 0, 1])[0] == [2, 0, 1]


def test_a_negative_margin_demands_a_better_stand_in() -> None:
    assert keep(Margin(tau=-0.05, deployments=ALL))[0] == [2, 1, 0]


def test_without_its_reference_the_best_predicted_answers_and_it_is_said() -> None:
    found, said = keep(Margin(tau=0.5, deployments=ALL), HEADS[:2], order=[0, 1])
    assert found == [1, 0]
    assert said == "; the guarantee's reference strong is not eligible"


def test_a_certificate_is_asked_for_what_the_profile_promises_and_weighs() -> None:
    for weight in (20.0, None):
        strategy = Certified(None)
        guaranteed(PROMISE, strategy, HEADS, SCORES, [0, 1, 2], weight)
        assert strategy.asked == ("strong", 0.02, 0.1, weight)


@pytest.mark.parametrize(
    ("margin", "fit"),
    [(None, 1), (Margin(tau=0.05, deployments=ALL), 2), (Margin(tau=0.5, deployments=ALL), 3)],
)
def test_says_how_many_may_answer_so_that_a_hint_cannot_break_the_promise(
    margin: Margin | None, fit: int
) -> None:
    assert guaranteed(PROMISE, Certified(margin), HEADS, SCORES, [0, 1, 2], 20.0)[1] == fit
