from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.strategies.adaptive import AdaptiveEstimator, AdaptiveStrategy
from routeiq.strategies.learned import LearnedStrategy
from routeiq.strategies.posterior import CELL_STRENGTH, STRENGTH
from routeiq.testing import StrategyCheck, strategy_checks
from routeiq.training.build import build_table
from routeiq.training.fitting.adaptive import fit_adaptive
from routeiq.training.fitting.cluster import fit_cluster
from routeiq.training.records import Record
from routeiq.training.table import Table
from routeiq.types import Attempt, Decision, LoadContext, Outcome, Ranked, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, request

TRIO = (CHEAP, MIDDLE, STRONG)
CANDIDATES = [candidate(one.id, of=one) for one in TRIO]
SUMS = [f"What is {n} plus {n * 7}? Show the calculation." for n in range(30)]
POEMS = [f"Write a gentle poem about {what} in spring." for what in ("cats", "rain", "trees") * 10]


@pytest.fixture(scope="module")
def table() -> Table:
    """Sums are for `middle`, poems for `strong`."""
    records = [
        Record(id=f"s{n}", text=text, scores={"cheap": 0.3, "middle": 0.9, "strong": 0.6})
        for n, text in enumerate(SUMS)
    ] + [
        Record(id=f"p{n}", text=text + "!" * n, scores={"cheap": 0.3, "middle": 0.5, "strong": 0.9})
        for n, text in enumerate(POEMS)
    ]
    return build_table(records)


def save(folder: Path, estimator: Any, table: Table) -> Path:
    arrays, settings = estimator.state()
    draft = Draft(
        strategy=estimator.kind,
        features=table.fingerprint,
        models=estimator.models,
        arrays=arrays,
        settings={"estimator": settings},
    )
    write_artifact(folder / estimator.kind, draft)
    return folder


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    estimator = fit_adaptive(table, base="cluster", cells=2)
    return save(tmp_path_factory.mktemp("models"), estimator, table)


def strategy(path: Path | str = "", **options: Any) -> AdaptiveStrategy:
    made = AdaptiveStrategy(AdaptiveStrategy.Options(**options))
    made.load(LoadContext(deployments=TRIO, models_path=str(path)))
    return made


def decided(first: int = 0) -> Decision:
    ranking = tuple(
        Ranked(deployment=one, score=0.5, utility=0.5) for one in (*TRIO[first:], *TRIO[:first])
    )
    return Decision(id="d", requested="auto", strategy="adaptive", reason="", ranking=ranking)


def attempt(id: str, status: int | None, error: str | None) -> Attempt:
    return Attempt(deployment_id=id, status=status, duration_ms=1.0, error=error)


def outcome(*attempts: Attempt) -> Outcome:
    return Outcome(kind="success", status=200, deployment=None, attempts=attempts, latency_ms=1.0)


def offline(made: AdaptiveStrategy, asked: RoutingRequest) -> list[float]:
    return list(LearnedStrategy.score(made, asked, CANDIDATES))


@pytest.mark.parametrize("check", strategy_checks())
def test_it_keeps_the_contract(check: StrategyCheck) -> None:
    check(AdaptiveStrategy)


@pytest.mark.parametrize("check", strategy_checks())
def test_it_keeps_the_contract_with_an_artifact(check: StrategyCheck, folder: Path) -> None:
    chosen = AdaptiveStrategy.Options(artifact=str(folder / "adaptive"))
    check(lambda: AdaptiveStrategy(chosen))


def test_estimator_survives_an_artifact(table: Table, folder: Path) -> None:
    estimator = fit_adaptive(table, base="cluster", cells=2)
    artifact = open_artifact(folder / "adaptive")
    again = AdaptiveEstimator.restore(
        artifact.manifest.models, artifact.arrays, artifact.manifest.settings["estimator"]
    )
    x = table.features
    assert np.array_equal(again.predict(x), estimator.predict(x))
    assert np.array_equal(again.predict(x), fit_cluster(table).predict(x))
    assert [again.cell(row) for row in x] == [estimator.cell(row) for row in x]
    assert again.explain(x[:1])["cell"] == estimator.cell(x[0])


def test_an_unknown_base_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="no kind of estimator"):
        fit_adaptive(table, base="oracle")
    with pytest.raises(ValueError, match="no rows"):
        fit_adaptive(table.take(np.array([], dtype=np.int64)), base="cluster")
    with pytest.raises(ValueError, match="has no estimator"):
        AdaptiveEstimator.restore(table.models, {}, {"base": "round-robin"})


def test_sums_and_poems_fall_into_different_cells(table: Table) -> None:
    estimator = fit_adaptive(table, base="cluster", cells=2)
    cells = [estimator.cell(row) for row in table.features]
    assert len(set(cells[:30])) == len(set(cells[30:])) == 1
    assert cells[0] != cells[30]


def test_feedback_moves_the_offline_prediction_by_hand(folder: Path) -> None:
    made = strategy(folder)
    asked = request(SUMS[3])
    before = offline(made, asked)
    assert made.score(asked, CANDIDATES) == before
    made.learn(asked, decided(1), 0.0)
    after = made.score(asked, CANDIDATES)
    residual = -before[1]
    assert after[1] == pytest.approx(
        before[1] + residual / (1 + STRENGTH) + residual / (1 + CELL_STRENGTH)
    )
    assert (after[0], after[2]) == (before[0], before[2])
    other = request(POEMS[1])
    assert made.score(other, CANDIDATES)[1] == pytest.approx(
        offline(made, other)[1] + residual / (1 + STRENGTH)
    )


def test_a_model_that_got_worse_is_left_and_exploration_rises(folder: Path) -> None:
    made = strategy(folder)
    asked = request(SUMS[3])
    assert int(np.argmax(made.score(asked, CANDIDATES))) == 1
    assert made.exploration(asked) == 0.015
    for _ in range(60):
        made.learn(asked, decided(1), 0.0)
    assert int(np.argmax(made.score(asked, CANDIDATES))) == 2
    assert made.report()["drifted"] == {"middle": "worse"}
    assert made.report()["drift_alarms"] >= 1
    raised = made.exploration(asked)
    assert raised == pytest.approx(0.12)
    for _ in range(150):
        made.exploration(asked)
    assert made.exploration(asked) == pytest.approx(0.0675, abs=0.001)


def test_scores_stay_in_bounds_whatever_is_fed_back(folder: Path) -> None:
    made = strategy(folder)
    for text in SUMS[:20]:
        made.learn(request(text), decided(1), 7.0)
        made.learn(request(text), decided(0), -3.0)
    scores = made.score(request(SUMS[1]), CANDIDATES)
    assert all(0.0 <= score <= 1.0 for score in scores)


def test_failing_calls_lower_a_score_and_the_callers_faults_do_not(folder: Path) -> None:
    made = strategy(folder)
    asked = request(SUMS[3])
    before = made.score(asked, CANDIDATES)
    made.observe(decided(), outcome(attempt("cheap", 400, "invalid"), attempt("x", 500, "e")))
    made.observe(decided(), outcome(attempt("cheap", 200, None)))
    assert made.score(asked, CANDIDATES) == before
    for status in (500, 429, None):
        made.observe(decided(), outcome(attempt("cheap", status, "failed")))
    after = made.score(asked, CANDIDATES)
    assert after[0] == pytest.approx(before[0] * 0.98**3, rel=0.01)
    assert after[1:] == before[1:]


def test_without_an_artifact_it_learns_on_top_of_the_prior() -> None:
    made = strategy()
    asked = request("Prove that there are infinitely many primes, step by step.")
    before = made.score(asked, CANDIDATES)
    for _ in range(100):
        made.learn(asked, decided(2), 0.0)
    after = made.score(asked, CANDIDATES)
    assert after[2] < before[2] - 0.3
    assert after[:2] == before[:2]
    assert list(made.report()["posteriors"]) == ["4"]


def test_what_was_learned_survives_a_restart(folder: Path) -> None:
    made = strategy(folder)
    asked = request(SUMS[3])
    made.learn(asked, decided(1), 0.0)
    made.observe(decided(), outcome(attempt("cheap", 500, "failed")))
    state = orjson.loads(orjson.dumps(made.snapshot()))
    again = strategy(folder)
    again.restore(state)
    assert again.score(asked, CANDIDATES) == made.score(asked, CANDIDATES)
    other = strategy()
    other.restore(state)
    assert other.report()["posteriors"] == {}
    with pytest.raises(ValueError, match="at least one cell"):
        again.restore({**state, "posteriors": [{}]})


def test_an_artifact_without_cells_gets_planes(table: Table, tmp_path: Path) -> None:
    class Plain(AdaptiveStrategy):
        estimators = {"cluster": type(fit_cluster(table))}  # noqa: RUF012

    save(tmp_path, fit_cluster(table), table)
    made = Plain(Plain.Options(artifact=str(tmp_path / "cluster")))
    made.load(LoadContext(deployments=TRIO, models_path=""))
    asked = request(SUMS[3])
    before = made.score(asked, CANDIDATES)
    made.learn(asked, decided(1), 0.0)
    assert made.score(asked, CANDIDATES)[1] < before[1]
    assert list(made.report()["posteriors"]) == ["32"]
