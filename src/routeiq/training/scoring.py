"""Predicted quality for rows of a table: from an artifact, or from a strategy that needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from routeiq.artifacts.artifact import Artifact, open_artifact
from routeiq.embeddings.features import Features
from routeiq.exceptions import ConfigError, Problem
from routeiq.registry import strategy_class
from routeiq.strategies.columns import by_name, plain, tier_weights
from routeiq.strategies.estimator import Estimator
from routeiq.strategies.learned import NEGLIGIBLE, LearnedStrategy
from routeiq.strategies.loading import restored
from routeiq.strategies.prior import prior_score
from routeiq.strategies.quality import qualities

from .features import open_features
from .table import Table

Matrix = npt.NDArray[np.float32]
CHUNK = 4096
"""Rows that are predicted at once: bounds memory, and is enough for BLAS."""


class Scorer(Protocol):
    """Predicts quality. `models` are those that it knows; empty where it can judge any."""

    name: str
    models: tuple[str, ...]

    def scores(self, table: Table) -> Matrix:
        """(rows, models of the table) in [0, 1]; unknown models get their price tier's mean."""
        ...


class ArtifactScorer:
    """Scores with a trained estimator, mixed with the prior as the artifact says."""

    def __init__(self, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self.name = manifest.strategy
        self.artifact = artifact
        self.estimator, self.features = _restored(artifact)
        self.models = self.estimator.models
        self._prior_weight = float(manifest.settings.get("prior_weight", 0.0))

    def scores(self, table: Table) -> Matrix:
        """Predicted quality of each of the table's models.

        Raises:
            ConfigError: the table's features are not those that the artifact was trained on.
        """
        expected = self.artifact.manifest.features
        if table.fingerprint != expected:
            message = f"was trained on features {expected!r}, the data has {table.fingerprint!r}."
            raise ConfigError(
                [Problem(key=str(self.artifact.folder), message=message, fix="Train it again.")]
            )
        columns = self._columns(table)
        found = np.empty((len(table), len(table.models)), dtype=np.float32)
        weights = np.full(len(table), self._prior_weight, dtype=np.float32)
        for start in range(0, len(table), CHUNK):
            rows = slice(start, start + CHUNK)
            predicted, trust = self.estimator.predict_with_trust(table.features[rows])
            found[rows] = predicted @ columns
            if trust is not None:
                np.maximum(weights[rows], 1.0 - trust, out=weights[rows])
        weights[weights <= NEGLIGIBLE] = 0.0
        if weights.any():
            found += weights[:, None] * (prior_scores(table) - found)
        return found

    def _columns(self, table: Table) -> Matrix:
        """(artifact's models, table's models): which prediction stands for which model."""
        known = by_name(self.models)
        found = np.zeros((len(self.models), len(table.models)), dtype=np.float32)
        costs = mean_costs(table)
        own: list[float | None] = [None] * len(self.models)
        places = [known.get(name, known.get(plain(name))) for name in table.models]
        for index, place in enumerate(places):
            if place is not None:
                own[place] = costs[index]
        for index, place in enumerate(places):
            if place is None:
                found[:, index] = tier_weights(costs[index], own)
            else:
                found[place, index] = 1.0
        return found


class PriorScorer:
    """Scores as the untrained `prior` does, from names, costs and the difficulty of each prompt."""

    name = "prior"
    models: tuple[str, ...] = ()

    def scores(self, table: Table) -> Matrix:
        """Predicted quality of each of the table's models."""
        return prior_scores(table)


def prior_scores(table: Table) -> Matrix:
    """What `prior` predicts: (rows, models)."""
    known = qualities(dict(zip(table.models, mean_costs(table), strict=True)))
    each = [known[name] for name in table.models]
    rows = [[prior_score(quality, hard) for quality in each] for hard in table.prior.tolist()]
    return np.array(rows, dtype=np.float32).reshape(len(table), len(table.models))


def mean_costs(table: Table) -> list[float | None]:
    """Mean cost of a request per model in USD, `None` where the data has none or it is free."""
    counts = np.isfinite(table.costs).sum(axis=0)
    sums = np.asarray(np.nansum(table.costs, axis=0, dtype=np.float64))
    pairs = zip(sums.tolist(), counts.tolist(), strict=True)
    return [total / count if count and total > 0 else None for total, count in pairs]


def restore(artifact: Artifact) -> Estimator:
    """The estimator in an artifact.

    Raises:
        MismatchedArtifact: no built-in strategy of this kind has one, or it does not fit.
    """
    return _restored(artifact)[0]


def _restored(artifact: Artifact) -> tuple[Estimator, Features]:
    name = artifact.manifest.strategy
    strategy = strategy_class(name, key=str(artifact.folder))
    kinds = strategy.estimators if issubclass(strategy, LearnedStrategy) else {}
    return restored(artifact, name, kinds, open_features)


def open_scorer(artifact: Path | None, strategy: str | None) -> Scorer:
    """A scorer for an artifact's folder, or for a strategy that needs none.

    Raises:
        ConfigError: neither or both are given, or the strategy needs an artifact.
        ArtifactError: the artifact cannot be used.
    """
    if (artifact is None) == (strategy is None):
        problem = Problem(
            key="--artifact", message="give exactly one of --artifact and --strategy."
        )
        raise ConfigError([problem])
    if artifact is not None:
        return ArtifactScorer(open_artifact(artifact))
    if strategy == "prior":
        return PriorScorer()
    raise ConfigError(
        [
            Problem(
                key="--strategy",
                message=f"{strategy!r} scores nothing without an artifact.",
                fix="Use --strategy prior, or --artifact with a folder from `routeiq models train`.",
            )
        ]
    )
