"""A model with few labels borrows from the others: its expected score is a shrunk linear function of theirs.

What a new model does on 50 prompts says little about the map from features to its quality, but much about whose
strengths it shares. The function is fitted on what is *predicted* of the others, out of fold. Their measured
outcomes would seem to carry more, but did worse: coin flips dilute the coefficients (docs/adr/0011-hybrid.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routeiq.training.table import Table

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

SCARCE = 150
"""Labels below which a model borrows, where others have `TIMES` as many."""
TIMES = 3
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Pulls towards the mean of all models, in labels' worth of variance, chosen by leave-one-out error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """`offset + predictions @ weights`: weights (M,) over the other models."""

    weights: Doubles
    offset: float

    def __call__(self, predictions: npt.NDArray[np.floating]) -> Doubles:
        """Expected score of the new model, (n,), from those of the others, (n, M)."""
        return np.asarray(predictions @ self.weights + self.offset)


def scarce(scores: Matrix) -> npt.NDArray[np.bool_]:
    """Which models (M,) have so few labels, and others so many more, that they should borrow."""
    labels = np.isfinite(scores).sum(axis=0)
    few = (labels > 0) & (labels < SCARCE) & (labels * TIMES <= labels.max(initial=0))
    return np.asarray(few if (~few & (labels > 0)).sum() >= 2 else np.zeros_like(few))


def fit_transfer(predictions: Floats, scores: Floats, weights: Floats, rates: Doubles) -> Transfer:
    """Ridge regression of a model's scores on predictions of the others, pulled to equal weights.

    Args:
        predictions: of the other models on the same rows, (n, M), out of fold.
        scores: of the new model, (n,).
        weights: of the rows, (n,).
        rates: mean score of each other model over all rows, (M,): the 50 rows may be easy ones by chance.
    """
    x, y = np.asarray(predictions, np.float64) - rates, np.asarray(scores, np.float64)
    count = x.shape[1]
    if not len(y):
        return Transfer(weights=np.full(count, 1.0 / count), offset=0.0)
    w = np.asarray(weights, np.float64)
    share = w / w.sum()
    power = float(share @ (x**2).sum(axis=1)) / count + 1e-9
    equal = np.full(count, 1.0 / count)
    rest = y - x @ equal
    root = np.sqrt(w / w.mean())[:, None]
    # the column of ones is the offset; it is not pulled
    design = np.concatenate([x, np.ones((len(y), 1))], axis=1) * root
    best, error = np.zeros(count + 1), np.inf
    for penalty in PENALTIES:
        pull = np.diag(np.append(np.full(count, penalty * power), 1e-9))
        inverse = np.linalg.inv(design.T @ design + pull)
        theta = inverse @ design.T @ (rest * root[:, 0])
        leverage = np.minimum(np.einsum("ij,jk,ik->i", design, inverse, design), 0.99)
        out = (rest * root[:, 0] - design @ theta) / (1.0 - leverage)
        if (found := float((out**2).mean())) < error:
            best, error = theta, found
    mixed = equal + best[:-1]
    return Transfer(weights=mixed, offset=float(best[-1] - rates @ mixed))


def expansion(
    scores: Matrix,
    few: npt.NDArray[np.bool_],
    predictions: Doubles,
    weights: Matrix,
    rates: Doubles,
) -> tuple[Doubles, Doubles]:
    """How predictions of the models with labels become predictions of all: `predictions @ spread + offset`.

    Args:
        scores: of all M models, (n, M).
        few: which of them borrow.
        predictions: of the K others, out of fold, (n, K).
        weights: of rows.
        rates: mean score of the K others.

    Returns:
        spread (K, M), the identity for models that do not borrow, and offset (M,).
    """
    spread, offset = np.zeros((len(rates), len(few))), np.zeros(len(few))
    spread[:, ~few] = np.eye(len(rates))
    for model in np.flatnonzero(few):
        rows = np.flatnonzero(np.isfinite(scores[:, model]))
        found = fit_transfer(predictions[rows], scores[rows, model], weights[rows], rates)
        spread[:, model], offset[model] = found.weights, found.offset
    return spread, offset


def with_models(table: Table, columns: npt.NDArray[np.intp]) -> Table:
    """The table with only these columns of models."""
    place = np.full(len(table.models), -1)
    place[columns] = np.arange(len(columns))
    pairs = table.preferences[:, 1:3].astype(np.int64)
    kept = (place[pairs] >= 0).all(axis=1)
    preferences = table.preferences[kept].copy()
    preferences[:, 1:3] = place[pairs[kept]]
    return replace(
        table,
        models=tuple(table.models[i] for i in columns),
        scores=table.scores[:, columns],
        costs=table.costs[:, columns],
        latencies=table.latencies[:, columns],
        output_tokens=table.output_tokens[:, columns],
        preferences=preferences,
    )
