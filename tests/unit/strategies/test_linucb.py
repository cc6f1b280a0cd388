from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.strategies.linucb import LARGEST, LinearBandit, LinucbEstimator, LinucbStrategy
from routeiq.testing import StrategyCheck, strategy_checks
from routeiq.training.build import build_table
from routeiq.training.fitting.linucb import RIDGE, WORTH, fit_linucb
from routeiq.training.fitting.space import mean_scores
from routeiq.training.records import Record
from routeiq.training.table import Table
from routeiq.types import Decision, LoadContext, Ranked
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, deployment, request

TRIO = (CHEAP, MIDDLE, STRONG)
CANDIDATES = [candidate(one.id, of=one) for one in TRIO]
TEXTS = [f"What is {n} plus {n * 7}?" for n in range(20)] + [
    f"Write a poem about the letter {c} and the sea." for c in "abcdefghijklmnopqrst"
]


@pytest.fixture(scope="module")
def table() -> Table:
    records = [
        Record(
            id=str(n),
            text=text,
            scores={"cheap": 0.3, "middle": 0.9 if n < 20 else 0.2}
            | ({"strong": 0.8} if n % 2 else {}),
        )
        for n, text in enumerate(TEXTS)
    ]
    return build_table(records)


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    estimator = fit_linucb(table)
    arrays, settings = estimator.state()
    draft = Draft(
        strategy="linucb",
        features=table.fingerprint,
        models=estimator.models,
        arrays=arrays,
        settings={"estimator": settings},
    )
    write_artifact(path / "linucb", draft)
    return path


def strategy(path: Path | str, **options: Any) -> LinucbStrategy:
    made = LinucbStrategy(LinucbStrategy.Options(**options))
    made.load(LoadContext(deployments=TRIO, models_path=str(path)))
    return made


def decided(index: int) -> Decision:
    ranking = (Ranked(deployment=TRIO[index], score=0.5, utility=0.5),)
    return Decision(id="d", requested="auto", strategy="linucb", reason="", ranking=ranking)


@pytest.mark.parametrize("check", strategy_checks())
def test_it_keeps_the_contract(check: StrategyCheck, folder: Path) -> None:
    check(LinucbStrategy)
    chosen = LinucbStrategy.Options(artifact=str(folder / "linucb"))
    check(lambda: LinucbStrategy(chosen))


def test_updates_are_the_ridge_regression_of_all_outcomes() -> None:
    rng = np.random.default_rng(0)
    z, rewards = rng.normal(size=(50, 4)), rng.random(50)
    bandit = LinearBandit(np.zeros((2, 4)), np.tile(np.eye(4), (2, 1, 1)))
    for row, reward in zip(z, rewards, strict=True):
        bandit.learn(1, row, float(reward))
    gram = np.eye(4) + z.T @ z
    assert bandit.theta[1] == pytest.approx(np.linalg.solve(gram, z.T @ rewards))
    assert bandit.inverse[1] == pytest.approx(np.linalg.inv(gram))
    assert bandit.widths(z[0])[1] == pytest.approx(
        np.sqrt(z[0] @ np.linalg.inv(gram) @ z[0]), rel=1e-6
    )
    assert not bandit.theta[0].any()
    assert bandit.outcomes == [0, 50]


def test_forgetting_weights_the_newest_most_and_stays_bounded() -> None:
    bandit = LinearBandit(np.zeros((1, 1)), np.ones((1, 1, 1)), forgetting=0.9)
    one = np.ones(1)
    for reward in (1.0, 0.0):
        bandit.learn(0, one, reward)
    gram = (1.0 * 0.9 + 1.0) * 0.9 + 1.0
    assert bandit.theta[0, 0] == pytest.approx(0.9 / gram)
    wide = LinearBandit(np.zeros((1, 2)), np.eye(2)[None], forgetting=0.9)
    for _ in range(500):
        wide.learn(0, np.array([1.0, 0.0]), 1.0)
    assert np.trace(wide.inverse[0]) <= 2 * LARGEST * (1 + 1e-9)
    assert np.isfinite(wide.theta).all()


def test_the_fit_is_a_ridge_towards_each_models_mean(table: Table) -> None:
    estimator = fit_linucb(table, axes=5)
    z = estimator.project(table.features)
    strong = table.models.index("strong")
    seen = np.isfinite(table.scores[:, strong])
    start = mean_scores(table.scores, table.weights)[strong]
    gram = RIDGE * np.eye(6) + WORTH * z[seen].T @ z[seen]
    moment = WORTH * z[seen].T @ table.scores[seen, strong]
    moment[-1] += RIDGE * start
    assert estimator.theta[strong] == pytest.approx(np.linalg.solve(gram, moment), rel=1e-4)
    with pytest.raises(ValueError, match="no rows"):
        fit_linucb(table.take(np.array([], dtype=np.int64)))


def test_state_survives_and_a_missing_array_is_refused(table: Table) -> None:
    estimator = fit_linucb(table)
    arrays, settings = estimator.state()
    again = LinucbEstimator.restore(table.models, arrays, settings)
    assert np.array_equal(again.predict(table.features), estimator.predict(table.features))
    del arrays["theta"]
    with pytest.raises(ValueError, match="theta"):
        LinucbEstimator.restore(table.models, arrays, settings)


def test_it_learns_from_feedback_and_keeps_the_artifact_as_it_was(folder: Path) -> None:
    made = strategy(folder, alpha=0.0)
    asked = request(TEXTS[0])
    before = made.score(asked, CANDIDATES)
    assert int(np.argmax(before)) == 1
    for _ in range(60):
        made.learn(asked, decided(1), 0.0)
    after = made.score(asked, CANDIDATES)
    assert after[1] < 0.2
    assert (after[0], after[2]) == pytest.approx((before[0], before[2]))
    assert made.report()["outcomes"] == {"cheap": 0, "middle": 60, "strong": 0}
    assert strategy(folder, alpha=0.0).score(asked, CANDIDATES) == before


def test_optimism_shrinks_with_outcomes(folder: Path) -> None:
    asked = request(TEXTS[0])
    sober, bold = strategy(folder, alpha=0.0), strategy(folder, alpha=0.5)
    gain = bold.score(asked, CANDIDATES)[0] - sober.score(asked, CANDIDATES)[0]
    assert gain > 0.01
    for made in (sober, bold):
        for _ in range(30):
            made.learn(asked, decided(0), 0.3)
    assert bold.score(asked, CANDIDATES)[0] - sober.score(asked, CANDIDATES)[0] < gain / 2


def test_models_that_it_never_saw_are_scored_but_not_learned(folder: Path) -> None:
    made = strategy(folder)
    stranger = deployment("stranger")
    asked = request(TEXTS[0])
    assert 0.0 <= made.score(asked, [candidate("s", of=stranger)])[0] <= 1.0
    ranking = (Ranked(deployment=stranger, score=0.5, utility=0.5),)
    made.learn(
        asked,
        Decision(id="d", requested="auto", strategy="linucb", reason="", ranking=ranking),
        1.0,
    )
    assert sum(made.report()["outcomes"].values()) == 0


def test_without_an_artifact_it_scores_like_the_prior_and_learns_nothing() -> None:
    made = strategy("")
    before = made.score(request(), CANDIDATES)
    made.learn(request(), decided(1), 0.0)
    assert made.score(request(), CANDIDATES) == before
    assert made.report()["outcomes"] == {}
    assert made.exploration(request()) == 0.0


def test_an_update_takes_less_than_0_3_ms() -> None:
    bandit = LinearBandit(np.zeros((10, 17)), np.tile(np.eye(17), (10, 1, 1)), forgetting=0.999)
    z, times = np.full(17, 0.1), []
    for _ in range(50):
        start = time.perf_counter()
        bandit.learn(3, z, 1.0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3e-3
