"""Stacking (Wolpert 1992) for routers: only differences between models change the choice, so they get own weights.

A part's prediction is taken apart into each model's mean, the row's level (its mean deviation over the models:
how hard the prompt is) and the differences between the models. Levels and differences are weighted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PULL, PULL_ROWS = 0.03, 300.0
"""Pull to equal weights, `PULL + PULL_ROWS / rows`, as a share of the parts' mean second moment."""
ROUNDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Weights (P,) of the parts' differences and levels, and the mean score of each model (M,)."""

    differences: Doubles
    levels: Doubles
    rates: Doubles

    def mixing(self, part: int) -> Doubles:
        """The (M, M) matrix that a part's deviations from the rates are multiplied with, from the right."""
        count = len(self.rates)
        spread = (self.levels[part] - self.differences[part]) / count
        return np.asarray(self.differences[part] * np.eye(count) + spread)

    def __call__(self, parts: Matrix) -> Doubles:
        """The stacked prediction (n, M) of parts (P, n, M)."""
        total = np.zeros(parts.shape[1:], np.float64)
        for index, part in enumerate(parts):
            total += (part - self.rates) @ self.mixing(index)
        return np.asarray(total + self.rates)


def non_negative(gram: Doubles, moment: Doubles) -> Doubles:
    """The argmin over w >= 0 of w' gram w / 2 - moment' w, by cyclic coordinate descent."""
    w = np.zeros(len(moment))
    for _ in range(ROUNDS):
        before = w.copy()
        for i in range(len(w)):
            if gram[i, i] > 0.0:
                w[i] = max(0.0, w[i] + (moment[i] - gram[i] @ w) / gram[i, i])
        if np.abs(w - before).max() < 1e-10:
            break
    return w


def fit_stack(
    parts: Matrix,
    scores: Matrix,
    weights: Matrix,
    rates: Doubles,
    *,
    pull: float | None = None,
    learn: bool = True,
) -> Stack:
    """Non-negative weights that predict the scores best in least squares, pulled to equal ones.

    Args:
        parts: out-of-fold predictions (P, n, M); rows with NaN are left out.
        scores: (n, M), NaN where nobody measured.
        weights: of rows, (n,).
        rates: mean score of each model.
        pull: to equal weights; by default it falls with the rows, see `PULL`.
        learn: False only learns how much to shrink, with equal weights: for few rows.
    """
    count = len(parts)
    pull = PULL + PULL_ROWS / max(1, len(scores)) if pull is None else pull
    deviations = parts.astype(np.float64) - rates
    level = deviations.mean(axis=2, keepdims=True)
    seen = np.isfinite(scores) & np.isfinite(deviations).all(axis=0)
    mass = np.where(seen, weights[:, None], 0.0).astype(np.float64)
    mass /= max(mass.sum(), 1e-12)
    target = np.where(seen, scores - rates, 0.0)
    differences = _weigh(deviations - level, target, mass, pull, learn=learn)
    levels = _weigh(np.broadcast_to(level, deviations.shape), target, mass, pull, learn=learn)
    if not seen.any():
        differences = levels = np.full(count, 1.0 / count)
    return Stack(differences=differences, levels=levels, rates=np.asarray(rates, np.float64))


def _weigh(inputs: Doubles, target: Doubles, mass: Doubles, pull: float, *, learn: bool) -> Doubles:
    count = len(inputs)
    filled = np.where(mass > 0.0, inputs, 0.0)
    if not learn:
        mean = filled.mean(axis=0)
        power = float((mass * mean**2).sum())
        slope = float((mass * mean * target).sum()) / power if power > 0.0 else 0.0
        return np.full(count, min(1.0, max(0.0, slope)) / count)
    flat = filled.reshape(count, -1)
    gram = (flat * mass.ravel()) @ flat.T
    moment = flat @ (mass * target).ravel()
    strength = pull * float(np.trace(gram)) / count
    return non_negative(gram + strength * np.eye(count), moment + strength / count)
