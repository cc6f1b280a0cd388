"""Linear models for all candidates at once, with what they share and what is each one's own penalised apart.

The coefficients of model m are w + v_m. Whether a prompt is hard is nearly the same question for every model, so w
is learned from all labels and v_m only where the model's own labels insist: with equal penalties the fits would be
independent, with an infinite one on v_m they would all be the same line. (Evgeniou & Pontil 2004, "Regularized
multi-task learning".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from routeiq.training.errors import require
from routeiq.training.table import Table

from .calibration import platt_per_model
from .folds import fold_of, splits

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Loss = Literal["logistic", "squared_hinge"]
FOLDS = 5
ITERATIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Ridge penalties on the shared and the own coefficients, in the unit of a sum of losses (1 / C)."""

    shared: float
    own: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`coefficients` (d, M) and `intercepts` (M,); `parameters` is where a further fit may start from."""

    coefficients: Matrix
    intercepts: Matrix
    parameters: Floats

    def of(self, z: Matrix) -> Matrix:
        """The line's value for rows of `z`."""
        out: Matrix = z @ self.coefficients + self.intercepts
        return out


def fit_line(
    z: Matrix,
    scores: Matrix,
    weights: Matrix,
    penalty: Penalty,
    *,
    loss: Loss = "logistic",
    start: Floats | None = None,
) -> Line:
    """The line with the least penalised loss, by L-BFGS.

    Args:
        z: features (n, d).
        scores: labels in [0, 1], (n, M); NaN where nobody measured. Of a soft label s, s is a win and
            1 - s a loss.
        weights: row weights, (n,).
        penalty: ridge on the coefficients; intercepts are free but for 1e-3, which keeps constant labels finite.
        loss: `logistic`, or `squared_hinge` for a support vector machine.
        start: parameters of an earlier fit of the same shape.
    """
    optimize = require("scipy.optimize", extra="train", purpose="fitting a linear model")
    rows, width = z.shape
    models = scores.shape[1]
    seen = np.isfinite(scores)
    w = (weights[:, None] * seen).astype(np.float32)
    y = np.where(seen, scores, 0.0).astype(np.float32)
    value = _logistic if loss == "logistic" else _squared_hinge

    # In units of each penalty's own width the penalty is a sphere: fewer steps, whatever the ratio.
    unit = np.ones(width + width * models + models)
    unit[:width], unit[width:-models] = penalty.shared**-0.5, penalty.own**-0.5

    def objective(at: Floats) -> tuple[float, Floats]:
        shared, own, intercepts = _unpack(at * unit, width, models)
        line = z @ (shared + own).astype(np.float32) + intercepts.astype(np.float32)
        total, slope = value(line, y, w)
        gradient = (z.T @ slope).astype(np.float64)
        total += 0.5 * penalty.shared * float((shared**2).sum())
        total += 0.5 * penalty.own * float((own**2).sum())
        total += 0.5e-3 * float((intercepts**2).sum())
        parts = (
            gradient.sum(axis=1, keepdims=True) + penalty.shared * shared,
            gradient + penalty.own * own,
            slope.sum(axis=0, dtype=np.float64) + 1e-3 * intercepts,
        )
        scale = max(rows, 1)
        return total / scale, np.concatenate([part.ravel() for part in parts]) * unit / scale

    start = np.zeros_like(unit) if start is None else start / unit
    options = {"maxiter": ITERATIONS, "maxcor": 20, "gtol": 1e-6, "ftol": 1e-9}
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    shared, own, intercepts = _unpack(found.x * unit, width, models)
    return Line(
        coefficients=(shared + own).astype(np.float32),
        intercepts=intercepts.astype(np.float32),
        parameters=found.x * unit,
    )


def _unpack(at: Floats, width: int, models: int) -> tuple[Floats, Floats, Floats]:
    """Shared (d, 1) and own (d, M) coefficients, intercepts (M,)."""
    own = at[width : width + width * models].reshape(width, models)
    return at[:width, None], own, at[width + width * models :]


def _logistic(line: Matrix, y: Matrix, w: Matrix) -> tuple[float, Matrix]:
    """Sum of log losses, and its slope at each entry."""
    small = np.exp(-np.abs(line))
    total = float((w * (np.maximum(line, 0.0) - y * line + np.log1p(small))).sum(dtype=np.float64))
    p = np.where(line >= 0.0, 1.0, small) / (1.0 + small)
    slope: Matrix = (w * (p - y)).astype(np.float32)
    return total, slope


def _squared_hinge(line: Matrix, y: Matrix, w: Matrix) -> tuple[float, Matrix]:
    """Sum of squared hinge losses, a soft label counting on both sides, and its slope at each entry."""
    up, down = np.maximum(1.0 - line, 0.0), np.maximum(1.0 + line, 0.0)
    total = float((w * (y * up**2 + (1.0 - y) * down**2)).sum(dtype=np.float64))
    slope: Matrix = (2.0 * w * ((1.0 - y) * down - y * up)).astype(np.float32)
    return total, slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The best penalty, its squared error, and the Platt slopes and offsets (M,) of its lines."""

    penalty: Penalty
    error: float
    slopes: Matrix
    offsets: Matrix

    def calibrated(self, line: Line) -> tuple[Matrix, Matrix]:
        """Coefficients and intercepts of the line whose sigmoid is a probability."""
        coefficients = np.ascontiguousarray(line.coefficients * self.slopes)
        return coefficients, line.intercepts * self.slopes + self.offsets


def choose_penalty(
    z: Matrix, table: Table, penalties: Sequence[Penalty], *, seed: int, loss: Loss = "logistic"
) -> Chosen:
    """The penalty with the least squared error after calibration, all out of fold.

    Args:
        z: what the line is fitted on, a row per row of the table.
        table: labels, weights and ids.
        penalties: to try, from strong to weak, so that each fit starts near the last one.
        seed: of the folds.
        loss: of the fit.
    """
    fold = fold_of(table.ids, FOLDS, seed=seed)
    raw = [np.full(table.scores.shape, np.nan, dtype=np.float32) for _ in penalties]
    for kept, held in splits(fold):
        start = None
        for values, penalty in zip(raw, penalties, strict=True):
            part = z[kept], table.scores[kept], table.weights[kept]
            line = fit_line(*part, penalty, loss=loss, start=start)
            values[held], start = line.of(z[held]), line.parameters
    return min(
        (_judged(v, table, p) for v, p in zip(raw, penalties, strict=True)), key=lambda c: c.error
    )


def _judged(raw: Matrix, table: Table, penalty: Penalty) -> Chosen:
    slopes, offsets = platt_per_model(raw, table.scores, table.weights)
    p = 1.0 / (1.0 + np.exp(-np.clip(raw * slopes + offsets, -30.0, 30.0)))
    error = float(np.nansum(table.weights[:, None] * (p - table.scores) ** 2))
    return Chosen(penalty=penalty, error=error, slopes=slopes, offsets=offsets)
