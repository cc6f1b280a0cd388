"""Fits `elo`: Bradley-Terry ratings per cluster from scores (a difference is a soft win) and from preferences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routeiq.strategies.cluster import Centroids
from routeiq.strategies.elo import EloEstimator
from routeiq.strategies.numeric import EDGE
from routeiq.training.table import Table

from .calibration import platt_per_model
from .cluster import CHECKED, FOLDS, Sums, find_centres, fold_sums, nearest, usable
from .folds import fold_of, in_chunks, subsample
from .space import EMBEDDING_DIMENSION, fit_space, mean_scores

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
CLUSTERS = (24, 64)
STRENGTHS = (10.0, 50.0, 200.0)
LEVEL_STRENGTH = 20.0
"""Labels of the mean level that every cluster's level is shrunk by."""
TOP, SHARPNESS = 8, 4.0
STEPS = 30


def bradley_terry(wins: Floats, toward: Floats, strength: float) -> Floats:
    """Ratings (M,) in logits with P(a beats b) = sigmoid(rating a - rating b), summing to the same as `toward`.

    Newton's method on the log likelihood with a ridge to `toward`; Bradley & Terry (1952).

    Args:
        wins: (M, M), how often the row's model beat the column's; ties are half a win for each.
        toward: ratings that are the answer without any comparison.
        strength: curvature of the pull to them; a comparison of equals has 0.25.
    """
    games = wins + wins.T
    ratings = toward.astype(np.float64).copy()
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(ratings[:, None] - ratings, -30.0, 30.0)))
        slope = (wins - games * p).sum(axis=1) - strength * (ratings - toward)
        bend = games * p * (1.0 - p)
        curve = np.diag(bend.sum(axis=1) + strength) - bend
        step = np.clip(np.linalg.solve(curve, slope), -2.0, 2.0)
        ratings += step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(ratings)


def count_wins(table: Table, cluster: Index, fold: Index, count: int) -> Floats:
    """Soft wins (folds, K, M, M): half a win plus half the difference of the scores, and the preferences."""
    models = len(table.models)
    wins = np.zeros((FOLDS * count, models, models))
    group = fold * count + cluster
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows):
            wins[group[rows[0]]] += _score_wins(table.scores[rows], table.weights[rows])
    row = table.preferences[:, 0].astype(np.int64)
    a, b = table.preferences[:, 1].astype(np.int64), table.preferences[:, 2].astype(np.int64)
    share, weight = table.preferences[:, 3].astype(np.float64), table.weights[row]
    np.add.at(wins, (group[row], a, b), share * weight)
    np.add.at(wins, (group[row], b, a), (1.0 - share) * weight)
    return wins.reshape(FOLDS, count, models, models)


def _score_wins(scores: Matrix, weights: Matrix) -> Floats:
    seen = np.isfinite(scores)
    known = seen.astype(np.float64)
    weighted = np.where(seen, scores, 0.0) * weights[:, None]
    points = weighted.T @ known  # points of the row's model where the column's was measured too
    both = (known * weights[:, None]).T @ known
    wins: Floats = 0.5 * (both + points - points.T)
    np.fill_diagonal(wins, 0.0)
    return wins


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Ratings and uncalibrated logits of all clusters, (K, M) each."""

    ratings: Floats
    logits: Matrix


def _fit(wins: Floats, levels: Floats | None, strength: float) -> _Fit:
    """Ratings per cluster (wins is (K, M, M)), pulled to the global ones; logits add the cluster's level."""
    models = wins.shape[-1]
    everywhere = bradley_terry(wins.sum(axis=0), np.zeros(models), 1.0)
    everywhere -= everywhere.mean()
    each = np.stack([bradley_terry(one, everywhere, strength) for one in wins])
    each -= each.mean(axis=1, keepdims=True)
    logits = _against_average(each) if levels is None else levels[:, None] + each
    return _Fit(ratings=each, logits=logits.astype(np.float32))


def _against_average(ratings: Floats) -> Floats:
    """Log odds to beat an opponent drawn from the others; 0 for a model that is alone."""
    models = ratings.shape[1]
    if models == 1:
        return np.zeros_like(ratings)
    beats = 1.0 / (1.0 + np.exp(ratings[:, None, :] - ratings[:, :, None]))
    p = np.clip((beats.sum(axis=2) - 0.5) / (models - 1), EDGE, 1.0 - EDGE)
    return np.asarray(np.log(p / (1.0 - p)))


def _levels(sums: Sums, mean: Matrix, without: int | None = None) -> Floats:
    """Log odds of each cluster's mean quality over all models, one fold left out on request."""
    residual, mass = sums.residual.sum(axis=0), sums.mass.sum(axis=0)
    if without is not None:
        residual, mass = residual - sums.residual[without], mass - sums.mass[without]
    shift = residual.sum(axis=1) / (mass.sum(axis=1) + LEVEL_STRENGTH)
    p = np.clip(float(mean.mean()) + shift, 0.02, 0.98)
    return np.asarray(np.log(p / (1.0 - p)))


def fit_elo(
    table: Table,
    *,
    seed: int = 0,
    clusters: tuple[int, ...] = CLUSTERS,
    strengths: tuple[float, ...] = STRENGTHS,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> EloEstimator:
    """Ratings whose clusters and shrinkage are chosen out of fold; calibrated there where scores exist.

    Args:
        table: what to learn from, at least one row; scores, preferences or both.
        seed: of k-means and the folds.
        clusters: numbers of clusters to try.
        strengths: pulls of a cluster's ratings to the global ones, to try.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit ratings on.")
    space = fit_space(table.features, embedding_dimension=embedding_dimension)
    fold = fold_of(table.ids, FOLDS, seed=seed)
    best: _Trial | None = None
    for count in usable(clusters, len(table)):
        centres = find_centres(table, space, count, seed=seed)
        centroids = Centroids(space, centres, TOP, SHARPNESS)
        data = _collect(table, centroids, fold)
        for strength in strengths:
            trial = _try(table, data, strength, fold, seed=seed)
            if best is None or trial.loss < best.loss:
                best = trial
    assert best is not None  # noqa: S101 - `usable` gives one at least
    fit = _fit(best.data.wins.sum(axis=0), best.data.levels(), best.strength)
    return EloEstimator(
        table.models,
        centroids=best.data.centroids,
        logits=np.ascontiguousarray(fit.logits * best.slopes + best.offsets),
        ratings=fit.ratings.astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """What one clustering makes of the table: soft wins by fold and cluster, and scores where there are any."""

    centroids: Centroids
    wins: Floats
    sums: Sums | None
    mean: Matrix

    def levels(self, without: int | None = None) -> Floats | None:
        return None if self.sums is None else _levels(self.sums, self.mean, without)


def _collect(table: Table, centroids: Centroids, fold: Index) -> _Data:
    at, count = nearest(table.features, centroids), len(centroids.centres)
    mean = mean_scores(table.scores, table.weights)
    scored = bool(np.isfinite(table.scores).any())
    return _Data(
        centroids=centroids,
        wins=count_wins(table, at, fold, count),
        sums=fold_sums(table, mean, at, fold, count) if scored else None,
        mean=mean,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    data: _Data
    strength: float
    loss: float
    slopes: Matrix
    offsets: Matrix


def _try(table: Table, data: _Data, strength: float, fold: Index, *, seed: int) -> _Trial:
    """One setting, judged on rows whose fold was left out: squared error, or log loss of preferences."""
    rows = subsample(table.ids, CHECKED, seed=seed)
    share = in_chunks(data.centroids.weights, table.features[rows])
    z = np.zeros((len(rows), len(table.models)), dtype=np.float32)
    for one in range(FOLDS):
        held = fold[rows] == one
        if held.any():
            wins = data.wins.sum(axis=0) - data.wins[one]
            z[held] = share[held] @ _fit(wins, data.levels(one), strength).logits
    ones, zeros = np.ones(z.shape[1], np.float32), np.zeros(z.shape[1], np.float32)
    if data.sums is None:
        loss = _preference_loss(table, rows, z)
        return _Trial(data=data, strength=strength, loss=loss, slopes=ones, offsets=zeros)
    scores, weights = table.scores[rows], table.weights[rows]
    slopes, offsets = platt_per_model(z, scores, weights)
    p = 1.0 / (1.0 + np.exp(-(z * slopes + offsets)))
    loss = float(np.nansum(weights[:, None] * (p - scores) ** 2))
    return _Trial(data=data, strength=strength, loss=loss, slopes=slopes, offsets=offsets)


def _preference_loss(table: Table, rows: Index, z: Matrix) -> float:
    """Log loss of the preferences on these rows, by the differences of their logits."""
    place = np.full(len(table), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    row, a, b = (table.preferences[:, i].astype(np.int64) for i in range(3))
    at, share = place[row], table.preferences[:, 3]
    known = at >= 0
    gap = (z[at, a] - z[at, b])[known].astype(np.float64)
    return float((np.logaddexp(0.0, gap) - share[known] * gap).sum())
