from __future__ import annotations

import pytest

from routeiq.routing.guarantee import switchable

SCORES = [0.70, 0.80, 0.75, 0.79]


@pytest.mark.parametrize(
    ("tau", "allowed"),
    [
        (0.0, (1,)),
        (0.01, (1, 3)),
        (0.05, (1, 2, 3)),
        (0.2, (0, 1, 2, 3)),
        (-0.05, (1,)),
    ],
)
def test_those_within_the_certified_margin_may_stand_in(
    tau: float, allowed: tuple[int, ...]
) -> None:
    assert switchable(SCORES, 1, tau + (1e-12 if tau > 0 else 0.0)) == allowed


def test_better_ones_may_always_stand_in_with_a_certificate() -> None:
    assert switchable(SCORES, 0, 0.0) == (0, 1, 2, 3)
    assert switchable(SCORES, 0, -0.08) == (0, 1, 3)


def test_without_a_certificate_only_the_reference_answers() -> None:
    assert switchable(SCORES, 0, None) == (0,)


@pytest.mark.parametrize("tau", [None, 0.5])
def test_without_its_reference_the_best_predicted_quality_is_taken(tau: float | None) -> None:
    assert switchable(SCORES, None, tau) == (1,)
