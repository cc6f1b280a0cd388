"""Kernel ridge regression on landmarks, in closed form, with exact leave-one-out predictions.

Nyström features (Williams and Seeger 2001) of a Gaussian kernel; the penalty of every output is the one with the
least leave-one-out error (PRESS: residual / (1 - leverage)). Outcomes without gaps are first turned to their
principal directions over the models: the common difficulty of a prompt and the differences between models then
get penalties of their own, and directions that nothing predicts are shrunk away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .adam import base_rates_of

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PENALTIES = tuple(float(v) for v in np.logspace(-1.5, 3.0, 13))
SMALLEST = 1e-5
"""Share of the largest eigenvalue below which a direction of the landmarks is noise."""
CHUNK = 8_192
FEWEST = 10
"""Labels below which a model gets no function of its own, only its mean and the common difficulty."""


def gaussian(x: Matrix, landmarks: Matrix, gamma: float) -> Matrix:
    """exp(-gamma |x - l|^2), (n, L)."""
    at = x @ (2.0 * gamma * landmarks.T).astype(np.float32)
    at -= gamma * (landmarks**2).sum(axis=1)
    at -= gamma * (x**2).sum(axis=1, keepdims=True)
    return np.exp(np.minimum(at, np.float32(0.0), out=at), out=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmarks:
    """A kernel's map to features: (L, d) points and the (L, r) projection that whitens them."""

    points: Matrix
    projection: Doubles
    gamma: float

    @classmethod
    def choose(cls, x: Matrix, count: int, gamma: float, seed: int) -> Landmarks:
        """Landmarks at random rows."""
        rows = np.random.default_rng(seed).permutation(len(x))[:count]
        points = np.ascontiguousarray(x[np.sort(rows)], dtype=np.float32)
        values, vectors = np.linalg.eigh(gaussian(points, points, gamma).astype(np.float64))
        kept = values > SMALLEST * values[-1]
        return cls(points=points, projection=vectors[:, kept] / np.sqrt(values[kept]), gamma=gamma)

    def features(self, x: Matrix) -> Matrix:
        """Nyström features (n, r), float32, made in chunks."""
        projection = self.projection.astype(np.float32)
        parts = [
            gaussian(x[i : i + CHUNK], self.points, self.gamma) @ projection
            for i in range(0, len(x), CHUNK)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Linear in the features: `f @ coefficients + offset`; what each row gets without itself; its error."""

    coefficients: Doubles
    offset: Doubles
    left_out: Doubles
    error: float

    def __call__(self, f: Matrix) -> Doubles:
        """Outputs for features (n, r)."""
        return np.asarray(f @ self.coefficients + self.offset)


class Ridge:
    """One decomposition of the features, any number of outputs."""

    def __init__(self, f: Matrix, weights: Matrix) -> None:
        w = weights.astype(np.float64)
        self._share = w / w.sum()
        self._root = np.sqrt(w / w.mean())[:, None]
        self._mean = self._share @ f
        centred = (f - self._mean) * self._root
        values, self._vectors = np.linalg.eigh(centred.T @ centred)
        self._values = np.maximum(values, 1e-9)
        self._left = centred @ self._vectors / np.sqrt(self._values)
        self._squares = self._left**2

    def solve(self, targets: Doubles, *, rotate: bool = False) -> Solution:
        """Fit outputs (n, k) without gaps, each with the penalty of least leave-one-out error.

        Args:
            targets: what to predict.
            rotate: choose penalties in the principal directions of the targets instead of per column.
        """
        mean = self._share @ targets
        z = (targets - mean) * self._root
        turn = np.linalg.eigh(z.T @ z)[1] if rotate else np.eye(z.shape[1])
        z = z @ turn
        inner = self._left.T @ z
        best = np.full(z.shape[1], np.inf)
        residual, chosen = np.zeros_like(z), np.zeros(z.shape[1])
        for penalty in PENALTIES:
            shrink = self._values / (self._values + penalty)
            leverage = np.minimum(self._squares @ shrink + self._share, 0.99)
            out = (z - self._left @ (inner * shrink[:, None])) / (1.0 - leverage)[:, None]
            error = (out**2).mean(axis=0)
            better = error < best
            best[better], chosen[better] = error[better], penalty
            residual[:, better] = out[:, better]
        scale = np.sqrt(self._values)[:, None] / (self._values[:, None] + chosen)
        coefficients = self._vectors @ (inner * scale) @ turn.T
        return Solution(
            coefficients=coefficients,
            offset=mean - self._mean @ coefficients,
            left_out=targets - residual @ turn.T / self._root,
            error=float(best.sum()),
        )


def solve_outcomes(f: Matrix, scores: Matrix, weights: Matrix, ridge: Ridge) -> Solution:
    """Kernel ridge for outcomes (n, M) that may have gaps.

    Without gaps: `Ridge.solve` in principal directions. With gaps: the common difficulty first (from each row's
    mean deviation), then each model's deviation from it, on the rows where it was measured.
    """
    seen = np.isfinite(scores)
    if seen.all():
        return ridge.solve(scores.astype(np.float64), rotate=True)
    rates = base_rates_of(scores, weights).astype(np.float64)
    deviation = np.where(seen, scores - rates, 0.0)
    counts = seen.sum(axis=1)
    rows = np.flatnonzero(counts)
    common = deviation[rows].sum(axis=1) / counts[rows]
    shared = Ridge(f[rows], weights[rows] * counts[rows].astype(np.float32)).solve(common[:, None])
    level = shared(f)
    level[rows] = shared.left_out
    coefficients = np.repeat(shared.coefficients, scores.shape[1], axis=1)
    offset = rates + shared.offset
    left_out = rates + np.repeat(level, scores.shape[1], axis=1)
    error = 0.0
    for model in range(scores.shape[1]):
        own = np.flatnonzero(seen[:, model])
        if len(own) < FEWEST:
            continue
        part = Ridge(f[own], weights[own]).solve((deviation[own, model] - level[own, 0])[:, None])
        coefficients[:, model] += part.coefficients[:, 0]
        offset[model] += part.offset[0]
        left_out[:, model] += part(f)[:, 0]
        left_out[own, model] = rates[model] + level[own, 0] + part.left_out[:, 0]
        error += part.error
    return Solution(coefficients=coefficients, offset=offset, left_out=left_out, error=error)
