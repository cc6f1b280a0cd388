"""The certified guarantee: exactness by enumeration, validity by simulation."""

from __future__ import annotations

import json
from math import inf

import numpy as np
import pytest
from scipy.stats import multinomial

from routeiq.training.certificate import (
    TAUS,
    certify,
    clopper_pearson_upper,
    covers,
    p_value,
    upper_bound,
)
from routeiq.training.errors import DataError
from routeiq.training.evaluation.outcomes import Outcomes, outcomes

COSTS = (1.0, 0.2)


def world(rows: int, seed: int, *, graded: bool = False) -> tuple[np.ndarray, Outcomes, np.ndarray]:
    """Predictions, outcomes and the true success probabilities of a dear and a cheap model."""
    rng = np.random.default_rng(seed)
    hard = rng.random(rows)
    truth = np.stack([0.9 - 0.2 * hard, 0.93 - 0.5 * hard], axis=1)
    q = np.clip(truth + rng.normal(0.0, 0.05, truth.shape), 0.0, 1.0)
    scores = rng.beta(4 * truth, 4 * (1 - truth)) if graded else rng.random(truth.shape) < truth
    costs = np.tile(COSTS, (rows, 1))
    return q, outcomes(("dear", "cheap"), scores.astype(float), costs, predicted=costs), truth


def true_loss(q: np.ndarray, truth: np.ndarray, tau: float) -> float:
    """Mean loss of "the cheapest that is admissible"."""
    switched = q[:, 1] >= q[:, 0] - tau
    return float((switched * (truth[:, 0] - truth[:, 1])).mean())


@pytest.mark.parametrize(
    ("rows", "epsilon", "discordant"), [(40, 0.05, 0.3), (40, 0.1, 0.12), (60, 0.02, 0.1)]
)
def test_test_keeps_its_level_exactly(rows: int, epsilon: float, discordant: float) -> None:
    """At the edge of the hypothesis, summed over every outcome, it rejects with probability <= delta."""
    harmful = (discordant + epsilon) / (2 * discordant)
    cells = [discordant * harmful, discordant * (1 - harmful), 1 - discordant]
    rejected = 0.0
    for harm in range(rows + 1):
        for gain in range(rows + 1 - harm):
            mass = float(multinomial.pmf([harm, gain, rows - harm - gain], rows, cells))
            if mass > 1e-8 and p_value(harm, gain, rows, epsilon, 0.1) <= 0.1:
                rejected += mass
    assert 0.0 < rejected <= 0.1


def test_p_value_moves_with_the_evidence() -> None:
    assert p_value(20, 10, 500, 0.02, 0.1) > p_value(15, 15, 500, 0.02, 0.1)
    assert p_value(10, 10, 500, 0.01, 0.1) > p_value(10, 10, 500, 0.03, 0.1)
    assert p_value(0, 0, 2000, 0.01, 0.1) <= 0.01


def test_clopper_pearson_by_hand() -> None:
    # no hit in n rows: 1 - alpha^(1/n)
    assert clopper_pearson_upper(0, 50, 0.05) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert clopper_pearson_upper(50, 50, 0.05) == 1.0


def test_bound_is_tighter_than_two_clopper_pearson_bounds() -> None:
    harm, gain, rows = 75, 75, 1200
    split = clopper_pearson_upper(harm, rows, 0.05) - (
        1.0 - clopper_pearson_upper(rows - gain, rows, 0.05)
    )
    assert 0.0 < upper_bound(harm, gain, rows, 0.1) < 0.7 * split
    assert upper_bound(0, 100, rows, 0.1) < 1e-3


def test_certificate_saves_and_says_what_it_promises() -> None:
    q, data, truth = world(2000, 1)
    found = certify(q, data, "dear", epsilon=0.02, delta=0.1, data_sha256="ff")
    assert found is not None
    assert found.tau in TAUS
    assert found.saved is not None
    assert found.saved > 0.2
    assert found.saved == pytest.approx(0.8 * found.switched)
    assert found.loss <= found.bound <= 0.02 + 1e-3
    assert true_loss(q, truth, found.tau) <= 0.02
    assert (found.rows, found.models) == (2000, ("dear", "cheap"))
    plain = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert plain["cost_weights"][0] == "cheapest"
    assert covers(plain, 123.0)


def test_stricter_promises_allow_less() -> None:
    q, data, _ = world(1500, 3)
    loose = certify(q, data, "dear", epsilon=0.03)
    strict = certify(q, data, "dear", epsilon=0.01)
    sure = certify(q, data, "dear", epsilon=0.03, delta=0.01)
    assert loose is not None
    assert strict is not None
    assert sure is not None
    assert strict.tau <= loose.tau
    assert sure.tau <= loose.tau


@pytest.mark.parametrize("graded", [False, True])
def test_promise_is_broken_no_more_often_than_delta(graded: bool) -> None:
    grid = tuple(round(-0.1 + 0.02 * step, 2) for step in range(20))
    broken, saved = 0, []
    big_q, _, big_truth = world(20_000, 5)
    for seed in range(60):
        q, data, _ = world(400, 1000 + seed, graded=graded)
        found = certify(
            q, data, "dear", epsilon=0.02, delta=0.2, taus=grid, cost_weights=(inf,), seed=seed
        )
        if found is not None:
            broken += true_loss(big_q, big_truth, found.tau) > 0.02
            saved.append(found.saved)
    assert broken <= 0.2 * 60  # exact test: well below in the mean
    assert np.mean([each for each in saved if each is not None]) > 0.1


def test_missing_scores_count_as_bad() -> None:
    q, data, _ = world(1000, 4)
    holes = data.scores.copy()
    holes[:, 1] = np.nan
    found = certify(q, outcomes(data.models, holes, data.costs), "dear", epsilon=0.01)
    assert found is None or found.switched < 0.02


def test_too_few_rows_certify_nothing() -> None:
    q, data, _ = world(60, 5)
    assert certify(q, data, "dear", epsilon=0.001) is None
    with pytest.raises(DataError, match="needs 50"):
        certify(q[:40], data.take(np.arange(40)), "dear")
    with pytest.raises(DataError, match="no model 'other'"):
        certify(q, data, "other")
    with pytest.raises(ValueError, match="epsilon"):
        certify(q, data, "dear", epsilon=0.0)


def test_certificate_for_one_weight_covers_that_weight_only() -> None:
    q, data, _ = world(1000, 6)
    found = certify(q, data, "dear", epsilon=0.02, cost_weights=(0.1,))
    assert found is not None
    assert covers(found.as_json(), 0.1)
    assert not covers(found.as_json(), 0.2)
    assert not covers({}, 0.0)
