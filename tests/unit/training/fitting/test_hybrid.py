from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routeiq.strategies.hybrid import HybridEstimator
from routeiq.training.fitting.hybrid import fit_hybrid
from routeiq.training.table import Table
from tests.support import estimators


def fit(table: Table) -> HybridEstimator:
    return fit_hybrid(
        table, landmarks=60, gamma=1.0, folds=3, embedding_dimension=estimators.DIMENSION
    )


def named(rows: int = 600, *, seed: int = 0) -> Table:
    """The synthetic data, with the topic of the nearest centre as task."""
    table = estimators.synthetic(rows, seed=seed)
    centres = np.random.default_rng(99).normal(size=(estimators.TOPICS, estimators.DIMENSION))
    topic = (table.features[:, : estimators.DIMENSION] @ centres.T).argmax(axis=1)
    return replace(table, tasks=tuple(f"topic {i}" for i in topic))


def test_beats_the_best_single_model_and_chance() -> None:
    estimators.check_beats_the_dummies(fit)


def test_predictions_are_calibrated_on_new_rows() -> None:
    estimators.check_calibrated(fit)


def test_restored_from_its_state_it_predicts_exactly_the_same() -> None:
    estimators.check_round_trip(fit, HybridEstimator)


def test_with_tasks_restored_it_predicts_the_same_and_says_which_task() -> None:
    table = named(200)
    estimator = fit(table)
    arrays, settings = estimator.state()
    again = HybridEstimator.restore(table.models, arrays, settings)
    assert np.array_equal(again.predict(table.features), estimator.predict(table.features))
    chances = again.explain(table.features[:1])["tasks"]
    assert max(chances, key=chances.__getitem__) == table.tasks[0]


def test_tasks_help_where_labels_are_few() -> None:
    def loss(tasks: bool) -> float:
        total = 0.0
        for seed in range(3):
            known, new = named(100, seed=10 + seed), named(600, seed=50 + seed)
            estimator = fit_hybrid(
                known, landmarks=60, tasks=tasks, embedding_dimension=estimators.DIMENSION
            )
            total += float(((estimator.predict(new.features) - new.scores) ** 2).mean())
        return total

    assert loss(True) < loss(False)


def test_damaged_artifacts_are_refused() -> None:
    messages = estimators.check_refuses_damage(fit, HybridEstimator)
    assert all("train it again" in message for message in messages)


def test_missing_scores_are_neither_zero_nor_fatal() -> None:
    estimators.check_missing_scores(fit)


def test_one_model_constant_scores_and_few_rows() -> None:
    estimators.check_small_and_strange(fit)


@pytest.mark.parametrize("rows", [10, 50, 200])
def test_few_rows_do_no_worse_than_the_models_means(rows: int) -> None:
    new = estimators.synthetic(600, seed=1)
    worse = []
    for seed in range(4):
        known = estimators.synthetic(rows, seed=20 + seed)
        quality = estimators.predicted(fit(known), new.features)
        means = known.scores.mean(axis=0)
        worse.append(((quality - new.scores) ** 2).mean() - ((means - new.scores) ** 2).mean())
    assert np.mean(worse) < 0.01


def test_the_same_rows_give_the_same_arrays() -> None:
    estimators.check_deterministic(fit)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        fit(estimators.synthetic(5).take(np.empty(0, np.int64)))


def test_a_model_with_few_labels_is_predicted_from_the_others() -> None:
    known, new = estimators.synthetic(800, models=4), estimators.synthetic(400, models=4, seed=1)
    twin = known.scores.copy()
    twin[:, 3] = twin[:, 0]  # the new model is as good as the first, prompt by prompt
    twin[60:, 3] = np.nan
    quality = estimators.predicted(fit(replace(known, scores=twin)), new.features)
    likeness = [float(np.corrcoef(quality[:, 3], quality[:, m])[0, 1]) for m in range(3)]
    assert int(np.argmax(likeness)) == 0
    assert likeness[0] > 0.8


def test_trusts_rows_like_its_own_and_not_those_from_elsewhere() -> None:
    new = estimators.synthetic(300, seed=1)
    whole = fit(estimators.synthetic(600))
    _, trust = whole.predict_with_trust(new.features)
    assert (trust == 1.0).mean() > 0.93
    elsewhere = new.features.copy()
    elsewhere[:, estimators.DIMENSION :] += 3.0
    _, trust = whole.predict_with_trust(elsewhere)
    assert trust.max() < 0.5


def test_progress_says_what_is_done() -> None:
    told: list[str] = []
    fit_hybrid(
        estimators.synthetic(60),
        landmarks=20,
        folds=2,
        embedding_dimension=estimators.DIMENSION,
        progress=told.append,
    )
    assert [line.split(":")[0] for line in told] == ["hybrid"] * 3
    assert told[-1] == "hybrid: fold 2 of 2"
