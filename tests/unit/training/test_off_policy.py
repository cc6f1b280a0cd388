from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from routeiq.training.off_policy import (
    CAUTION,
    LEAST_EXPLORED,
    METHODS,
    Floats,
    Logged,
    Method,
    estimate,
    overlap,
    student_t,
    weights,
)

MODELS = 4


def column(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def by_hand() -> Logged:
    return Logged(
        reward=column(1.0, 0.0, 1.0, 0.5),
        propensity=column(0.5, 0.5, 0.25, 1.0),
        target=column(1.0, 0.0, 1.0, 1.0),
        predicted=column(0.8, 0.4, 0.6, 0.5),
        value=column(0.8, 0.7, 0.6, 0.5),
        supported=np.ones(4, dtype=bool),
    )


def simulated(
    seed: int, *, rows: int = 1500, exploration: float = 0.3, wrong: float = 0.0
) -> tuple[Logged, float]:
    """A log by an epsilon-greedy policy that likes model 0; the new one likes model 1 for half of the prompts.

    Gives the new policy's true value too. `wrong` is how far the predicted rewards are off.
    """
    rng = np.random.default_rng(seed)
    kind = rng.random(rows) < 0.5
    success = np.where(kind[:, None], [[0.5, 0.8, 0.3, 0.2]], [[0.7, 0.4, 0.3, 0.2]])
    chance = rng.random(rows) < exploration
    made = np.where(chance, rng.integers(0, MODELS, rows), 0)
    mine = kind.astype(np.int64)
    at = np.arange(rows)
    predicted = np.clip(success + wrong, 0.0, 1.0)
    log = Logged(
        reward=(rng.random(rows) < success[at, made]).astype(np.float64),
        propensity=exploration / MODELS + (1.0 - exploration) * (made == 0),
        target=(made == mine).astype(np.float64),
        predicted=predicted[at, made],
        value=predicted[at, mine],
        supported=np.ones(rows, dtype=bool),
    )
    return log, 0.5 * 0.8 + 0.5 * 0.7


def test_weights_and_the_three_estimates_by_hand() -> None:
    log = by_hand()
    assert weights(log).tolist() == [2.0, 0.0, 4.0, 1.0]
    assert weights(log, clip=2.5).tolist() == [2.0, 0.0, 2.5, 1.0]
    expected: dict[Method, float] = {
        "ips": (2.0 + 4.0 + 0.5) / 4.0,
        "snips": 6.5 / 7.0,
        "dr": ((0.8 + 2 * 0.2) + 0.7 + (0.6 + 4 * 0.4) + 0.5) / 4.0,
    }
    for method in METHODS:
        assert estimate(log, method).value == pytest.approx(min(1.0, expected[method]))
    halved = replace(log, reward=log.reward / 2, predicted=log.predicted / 2, value=log.value / 2)
    for method in METHODS:
        assert estimate(halved, method).value == pytest.approx(expected[method] / 2)


def test_overlap_by_hand() -> None:
    known = overlap(by_hand(), clip=2.5)
    assert (known.decisions, known.matched, known.explored) == (4, 3, 1)
    assert known.sample == pytest.approx(5.5**2 / (4 + 6.25 + 1))
    assert known.largest_weight == 2.5
    assert known.clipped == pytest.approx(1.5 / 7.0)
    assert known.differs == pytest.approx(1 / 3)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_intervals_bracket_the_truth_at_least_94_times_of_100(wrong: float) -> None:
    covered = dict.fromkeys(METHODS, 0)
    for seed in range(100):
        log, truth = simulated(seed, rows=1200, wrong=wrong)
        assert overlap(log).refusal() is None
        for method in METHODS:
            found = estimate(log, method, seed=seed)
            covered[method] += found.low <= truth <= found.high
    assert min(covered.values()) >= 94, covered


def test_intervals_are_not_uselessly_wide() -> None:
    log, truth = simulated(3, rows=6000)
    found = estimate(log, "dr")
    assert found.value == pytest.approx(truth, abs=0.05)
    assert found.high - found.low < 0.15
    assert found.high - found.low < (e := estimate(log, "ips")).high - e.low


def test_wrong_propensities_are_noticed_by_the_estimates() -> None:
    log, truth = simulated(1, rows=4000)
    liar = replace(log, propensity=np.minimum(1.0, log.propensity * 2))
    assert estimate(liar, "ips").high < truth


def test_the_same_policy_is_worth_what_it_earned() -> None:
    rewards = np.random.default_rng(0).random(500)
    ones = np.ones(500)
    log = Logged(
        reward=rewards,
        propensity=ones,
        target=ones,
        predicted=ones * 0.5,
        value=ones * 0.5,
        supported=np.ones(500, dtype=bool),
    )
    assert overlap(log).refusal() is None
    for method in METHODS:
        assert estimate(log, method).value == pytest.approx(rewards.mean())


def test_a_log_without_exploration_supports_no_conclusion() -> None:
    log, _ = simulated(0)
    certain = replace(log, propensity=np.ones(len(log)), supported=log.target > 0.0)
    refusal = overlap(certain).refusal()
    assert refusal is not None
    assert "could not have chosen" in refusal


def test_too_few_explored_decisions_support_no_conclusion() -> None:
    log, _ = simulated(0, rows=800, exploration=0.02)
    assert overlap(log).explored < LEAST_EXPLORED
    assert "happened to be like that" in (overlap(log).refusal() or "")


def test_a_small_effective_sample_supports_no_conclusion() -> None:
    log = by_hand()
    assert "effective sample size" in (overlap(replace(log, target=np.ones(4))).refusal() or "")


def test_clipping_that_changes_the_policy_is_refused() -> None:
    log, _ = simulated(0)
    assert overlap(log).refusal() is None
    assert "cuts off" in (overlap(log, clip=2.0).refusal() or "")


def test_an_empty_log_supports_no_conclusion() -> None:
    none = np.zeros(0)
    log = Logged(
        reward=none,
        propensity=none,
        target=none,
        predicted=none,
        value=none,
        supported=np.zeros(0, dtype=bool),
    )
    assert "no decision in the log" in (overlap(log).refusal() or "")
    with pytest.raises(ValueError, match="no logged decision"):
        estimate(log, "ips")


def test_one_decision_with_all_the_weight_says_nothing() -> None:
    log = by_hand()
    found = estimate(replace(log, target=column(0.0, 0.0, 1.0, 0.0)), "snips")
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("reward", column(2.0, 0.0, 1.0, 0.5), "reward must be in"),
        ("propensity", column(0.0, 0.5, 0.5, 1.0), "propensity of 0"),
        ("target", column(1.0), "one entry per decision"),
        ("reward", column(float("nan"), 0.0, 1.0, 0.5), "reward must be in"),
    ],
)
def test_columns_that_cannot_be_are_refused(name: str, values: Floats, message: str) -> None:
    columns = {field: getattr(by_hand(), field) for field in Logged.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Logged(**{**columns, name: values})


@pytest.mark.parametrize("freedom", [3.0, 5.0, 12.0, 40.0, 1e6])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.9875])
def test_students_quantile_is_scipys(freedom: float, probability: float) -> None:
    assert student_t(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=0.02
    )


def test_students_quantile_is_cautious_for_almost_no_freedom() -> None:
    assert student_t(0.975, 1.0) >= stats.t.ppf(0.975, 1)


def test_a_long_logs_interval_is_the_normal_one_by_hand() -> None:
    log, _ = simulated(5, rows=60_000)
    earned = weights(log) * log.reward
    reach = stats.norm.ppf(1 - CAUTION * 0.05 / 2) * earned.std(ddof=1) / np.sqrt(len(log))
    found = estimate(log, "ips")
    assert found.high - found.value == pytest.approx(reach, rel=0.03)
    assert found.value - found.low == pytest.approx(reach, rel=0.03)
