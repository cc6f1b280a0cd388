from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.artifacts.errors import MismatchedArtifact
from routeiq.embeddings.features import load_features
from routeiq.exceptions import ConfigError
from routeiq.registry import strategy_class
from routeiq.strategies.columns import tier_weights
from routeiq.strategies.estimator import Arrays, Estimator
from routeiq.strategies.learned import LearnedStrategy
from routeiq.strategies.prior import prior_score
from routeiq.strategies.quality import qualities
from routeiq.training import scoring
from routeiq.training.scoring import (
    CHUNK,
    ArtifactScorer,
    PriorScorer,
    mean_costs,
    open_scorer,
    prior_scores,
    restore,
)
from routeiq.training.table import Matrix, Table

FINGERPRINT = load_features().fingerprint
DIMENSION = load_features().dimension


class Told(Estimator):
    """Predicts for each model its own number plus the row's first feature."""

    kind: ClassVar[str] = "told"

    def __init__(self, models: tuple[str, ...], values: Matrix) -> None:
        super().__init__(models)
        self.values = values

    def predict(self, x: Matrix) -> Matrix:
        assert len(x) <= CHUNK
        return (self.values + x[:, :1]).astype(np.float32)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"values": self.values}, {}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        return cls(models, arrays["values"])


class ToldStrategy(LearnedStrategy):
    name: ClassVar[str] = "told"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"told": Told}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = strategy_class
    monkeypatch.setattr(
        scoring,
        "strategy_class",
        lambda name, key="": ToldStrategy if name == "told" else known(name, key=key),
    )


def artifact(folder: Path, values: dict[str, float], **more: Any) -> Path:
    draft = Draft(
        **(
            {
                "strategy": "told",
                "features": FINGERPRINT,
                "models": tuple(values),
                "arrays": {"values": np.array(list(values.values()), np.float32)},
            }
            | more
        )
    )
    write_artifact(folder, draft)
    return folder


def table(
    models: tuple[str, ...], rows: int = 2, *, costs: tuple[float, ...] | None = None, **more: Any
) -> Table:
    unknown = np.full((rows, len(models)), np.nan, dtype=np.float32)
    features = np.zeros((rows, DIMENSION), np.float32)
    features[:, 0] = np.arange(rows) / 1e4
    return replace(
        Table(
            ids=tuple(map(str, range(rows))),
            tasks=("",) * rows,
            models=models,
            features=features,
            fingerprint=FINGERPRINT,
            scores=unknown,
            costs=unknown if costs is None else np.tile(np.array(costs, np.float32), (rows, 1)),
            latencies=unknown,
            output_tokens=unknown,
            weights=np.ones(rows, np.float32),
            preferences=np.zeros((0, 4), np.float32),
            prior=np.linspace(0.2, 0.8, rows, dtype=np.float32),
        ),
        **more,
    )


def test_columns_follow_the_tables_models(tmp_path: Path) -> None:
    scorer = open_scorer(artifact(tmp_path / "a", {"a": 0.1, "org/B": 0.2, "c": 0.3}), None)
    assert (scorer.name, scorer.models) == ("told", ("a", "org/B", "c"))
    found = scorer.scores(table(("c", "b", "a")))
    np.testing.assert_allclose(found, [[0.3, 0.2, 0.1], [0.3001, 0.2001, 0.1001]], rtol=1e-5)
    assert found.dtype == np.float32


def test_long_tables_are_predicted_in_pieces(tmp_path: Path) -> None:
    scorer = open_scorer(artifact(tmp_path / "a", {"a": 0.1}), None)
    long = table(("a",), CHUNK + 7)
    np.testing.assert_allclose(scorer.scores(long)[:, 0], 0.1 + long.features[:, 0], rtol=1e-5)


def test_unknown_models_get_their_price_tiers_mean(tmp_path: Path) -> None:
    scorer = open_scorer(artifact(tmp_path / "a", {"a": 0.1, "b": 0.7, "gone": 0.2}), None)
    found = scorer.scores(table(("a", "b", "new"), 1, costs=(0.001, 0.1, 0.09)))
    expected = np.array(tier_weights(0.09, [0.001, 0.1, None])) @ [0.1, 0.7, 0.2]
    assert float(found[0, 2]) == pytest.approx(float(expected), abs=1e-6)
    assert float(found[0, 2]) == pytest.approx(0.7, abs=0.01)


def test_without_costs_an_unknown_model_gets_the_mean_of_all(tmp_path: Path) -> None:
    scorer = open_scorer(artifact(tmp_path / "a", {"a": 0.1, "b": 0.5}), None)
    assert float(scorer.scores(table(("new", "a"), 1))[0, 0]) == pytest.approx(0.3)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_prior_is_mixed_in_as_the_artifact_says(tmp_path: Path, weight: float) -> None:
    folder = artifact(tmp_path / "a", {"a": 0.1, "b": 0.5}, settings={"prior_weight": weight})
    data = table(("a", "b"), costs=(0.001, 0.1))
    plain = np.array([[0.1, 0.5], [0.1001, 0.5001]])
    expected = (1 - weight) * plain + weight * prior_scores(data)
    np.testing.assert_allclose(open_scorer(folder, None).scores(data), expected, rtol=1e-5)


def test_rows_that_are_unlike_the_training_data_get_more_of_the_prior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = np.array([1.0, 0.4], np.float32)
    monkeypatch.setattr(Told, "predict_with_trust", lambda self, x: (self.predict(x), trust))
    folder = artifact(tmp_path / "a", {"a": 0.1}, settings={"prior_weight": 0.25})
    data = table(("a",))
    share = np.array([[0.25], [0.6]])  # the artifact's own, unless less is to be trusted
    expected = (1 - share) * np.array([[0.1], [0.1001]]) + share * prior_scores(data)
    np.testing.assert_allclose(open_scorer(folder, None).scores(data), expected, rtol=1e-5)


def test_other_features_are_refused(tmp_path: Path) -> None:
    scorer = open_scorer(artifact(tmp_path / "a", {"a": 0.1}), None)
    with pytest.raises(ConfigError, match="the data has 'other'"):
        scorer.scores(table(("a",), fingerprint="other"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"strategy": "prior"}, "is for strategy 'prior'"),
        ({"features": "other"}, "was trained on features 'other'"),
        ({"arrays": {"x": np.zeros(1, np.float32)}}, "does not fit together"),
    ],
)
def test_artifacts_that_cannot_be_used_say_why(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    folder = artifact(tmp_path / "a", {"a": 0.1}, **more)
    with pytest.raises(MismatchedArtifact, match=says):
        restore(open_artifact(folder))
    with pytest.raises(MismatchedArtifact, match=says):
        open_scorer(folder, None)


def test_an_artifact_comes_with_its_estimator_and_features(tmp_path: Path) -> None:
    opened = open_artifact(artifact(tmp_path / "a", {"a": 0.1}))
    assert isinstance(restore(opened), Told)
    assert ArtifactScorer(opened).features.fingerprint == FINGERPRINT


def test_the_prior_scores_by_name_cost_and_difficulty() -> None:
    data = table(("gpt-4o", "gpt-4o-mini"), 3, costs=(0.01, 0.0005))
    known = qualities({"gpt-4o": 0.01, "gpt-4o-mini": 0.0005})
    expected = [
        [prior_score(known[name], hard) for name in data.models] for hard in data.prior.tolist()
    ]
    found = open_scorer(None, "prior").scores(data)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found[:, 0] > found[:, 1]).all()
    assert (np.diff(found, axis=0) < 0).all()  # harder prompts, fewer good answers
    assert PriorScorer().models == ()


def test_the_prior_scores_an_empty_table() -> None:
    assert prior_scores(table(("a", "b"), 0)).shape == (0, 2)


def test_mean_costs_leave_out_what_is_unknown_or_free() -> None:
    costs = np.array([[1.0, np.nan, 0.0], [3.0, np.nan, 0.0], [np.nan, np.nan, 0.0]], np.float32)
    assert mean_costs(table(("a", "b", "c"), 3, costs=(0, 0, 0))) == [None] * 3
    data = replace(table(("a", "b", "c"), 3), costs=costs)
    assert mean_costs(data) == [2.0, None, None]


@pytest.mark.parametrize(
    ("folder", "strategy", "says"),
    [
        (None, None, "exactly one"),
        (Path("x"), "prior", "exactly one"),
        (None, "hybrid", "scores nothing without an artifact"),
        (None, "nobody", "scores nothing without an artifact"),
    ],
)
def test_a_scorer_is_an_artifact_or_the_prior(
    folder: Path | None, strategy: str | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        open_scorer(folder, strategy)
