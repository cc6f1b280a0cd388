"""Makes predicted qualities mean what they say: P = 0.7 is right 7 times of 10, for each model.

Fitted on out-of-fold predictions, per model, shrunk to a calibration pooled over all models where a model has
few labels. Every curve rises strictly, so that a model's order of prompts stays, and the offset is free, so that
its mean stays: the differences between models, which is what a router chooses by, are not flattened.

Platt (1999) fits sigmoid(slope * logit + offset); here with soft labels. `isotonic` adds the shape that a sigmoid
cannot take, by pool-adjacent-violators over equal-mass bins of the Platt output.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from routeiq.strategies.numeric import EDGE, LOGIT_LIMIT, Calibration

Floats = npt.NDArray[np.floating]
Shape = Literal["platt", "isotonic"]
Space = Literal["probability", "logit"]

SHRINK = 5.0
"""Curvature of the pull to the pooled curve. A label is worth p(1 - p): about 25 labels weigh as much."""
LEAST_SLOPE = 0.02
"""A slope below is no better than none; it stays positive so that the order of prompts survives."""
KNOTS = 65
"""Knots of the exported curves: off by less than 0.002 between 0.05 and 0.95, by up to 0.04 at the very ends."""
BINS = 16
"""Equal-mass bins that the isotonic correction is fitted on: few enough to be smooth."""
BIN_ROWS = 60
"""Labels that a bin needs; fewer labels get fewer bins."""
STEPS = 50
ROWS = 100_000
"""Rows that a calibration is fitted on at most, evenly taken: two numbers per model need no more."""


def platt(
    z: Floats,
    y: Floats,
    weights: Floats | None = None,
    *,
    toward: tuple[float, float] = (1.0, 0.0),
    strength: float = 0.0,
) -> tuple[float, float]:
    """Slope and offset for which sigmoid(slope * z + offset) has the least log loss against `y`.

    Args:
        z: logits (or any score, higher is better), (n,).
        y: labels in [0, 1], (n,); soft ones count as a share of a win.
        weights: row weights, (n,).
        toward: slope and offset that the penalty pulls to, and the answer without any label.
        strength: curvature of that pull, in the unit of sum(p (1 - p)).

    Returns:
        The slope, at least `LEAST_SLOPE`, and the offset.
    """
    z, y = np.asarray(z, np.float64), np.asarray(y, np.float64)
    w = np.ones_like(z) if weights is None else np.asarray(weights, np.float64)
    if not len(z) or not w.sum() > 0.0:
        return toward
    pull = np.array([strength + 1e-6, strength + 1e-6])  # the least keeps separable labels finite
    slope, offset = _newton(z, y, w, np.array(toward), pull)
    if slope < LEAST_SLOPE:
        pinned = np.array([LEAST_SLOPE, offset])
        _, offset = _newton(z, y, w, pinned, np.array([1e12, strength + 1e-6]))
        slope = LEAST_SLOPE
    return slope, offset


def _newton(z: Floats, y: Floats, w: Floats, toward: Floats, pull: Floats) -> tuple[float, float]:
    """Newton's method with halved steps on the penalised log loss of a line; convex, so it converges."""
    theta = toward.astype(np.float64).copy()

    def loss(at: Floats) -> float:
        line = np.clip(at[0] * z + at[1], -LOGIT_LIMIT, LOGIT_LIMIT)
        fit = float(w @ (np.logaddexp(0.0, line) - y * line))
        return fit + 0.5 * float(pull @ (at - toward) ** 2)

    now = loss(theta)
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(theta[0] * z + theta[1], -LOGIT_LIMIT, LOGIT_LIMIT)))
        error, bend = w * (p - y), w * p * (1.0 - p)
        slope_ = np.array([error @ z, error.sum()]) + pull * (theta - toward)
        cross = bend @ z
        curve = np.array([[bend @ z**2, cross], [cross, bend.sum()]]) + np.diag(pull)
        step = np.linalg.solve(curve + 1e-9 * np.eye(2), slope_)
        rate, then = 1.0, loss(theta - step)
        while then > now and rate > 1e-4:
            rate /= 2.0
            then = loss(theta - rate * step)
        if then > now:
            break
        theta -= rate * step
        if now - then < 1e-10 * max(abs(now), 1.0):
            break
        now = then
    return float(theta[0]), float(theta[1])


def platt_per_model(
    z: Floats, scores: Floats, weights: Floats | None = None, *, strength: float = SHRINK
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Slopes and offsets (M,) of each model's Platt curve, shrunk to the one of all models together.

    Args:
        z: logits out of fold, (n, M); NaN where there is none.
        scores: labels in [0, 1], (n, M); NaN where nobody measured.
        weights: row weights, (n,).
        strength: see `SHRINK`.
    """
    pairs = np.isfinite(z) & np.isfinite(scores)
    w = _spread(weights, z.shape)
    pooled = platt(z[pairs], scores[pairs], w[pairs], strength=1.0)
    each = [
        platt(z[seen, m], scores[seen, m], w[seen, m], toward=pooled, strength=strength)
        for m, seen in enumerate(pairs.T)
    ]
    slopes, offsets = np.array(each, dtype=np.float32).reshape(-1, 2).T
    return slopes.copy(), offsets.copy()


def isotonic(
    p: Floats, y: Floats, weights: Floats | None = None, *, bins: int = BINS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Knots (x, y) of a non-decreasing curve from `p` to `y`, by pool-adjacent-violators over equal-mass bins.

    Returns:
        Mean prediction and fitted mean label of each bin, both ascending; a single knot where all is one value.
    """
    order = np.argsort(p, kind="stable")
    p, y = np.asarray(p, np.float64)[order], np.asarray(y, np.float64)[order]
    w = np.ones_like(p) if weights is None else np.asarray(weights, np.float64)[order]
    count = int(max(1, min(bins, len(p) // BIN_ROWS)))
    middle = (np.cumsum(w) - 0.5 * w) / w.sum()
    bin_of = np.minimum((middle * count).astype(np.int64), count - 1)
    mass = np.bincount(bin_of, w, count)
    x_mean = np.bincount(bin_of, w * p, count)[mass > 0] / mass[mass > 0]
    y_mean = np.bincount(bin_of, w * y, count)[mass > 0] / mass[mass > 0]
    return x_mean, pool_adjacent(y_mean, mass[mass > 0])


def pool_adjacent(y: npt.NDArray[Any], weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The non-decreasing sequence nearest to `y` in weighted least squares (pool-adjacent-violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(y.tolist(), weights.tolist(), strict=True):
        mean, mass, size = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, more, length = blocks.pop()
            mean = (before * more + mean * mass) / (more + mass)
            mass, size = mass + more, size + length
        blocks.append((mean, mass, size))
    return np.concatenate([np.full(size, mean) for mean, _, size in blocks])


def fit_calibration(
    raw: Floats,
    scores: Floats,
    weights: Floats | None = None,
    *,
    shape: Shape = "platt",
    space: Space = "probability",
    strength: float = SHRINK,
) -> Calibration:
    """Each model's curve from out-of-fold predictions to probabilities, ready to be served.

    Args:
        raw: predictions out of fold, (n, M); NaN where there is none.
        scores: labels in [0, 1], (n, M); NaN where nobody measured.
        weights: row weights, (n,).
        shape: `platt`, or `isotonic` for Platt and then a piecewise-linear correction.
        space: whether `raw` are probabilities (their logit is taken) or logits and other free scores.
        strength: pull to the pooled curve, see `SHRINK`.
    """
    step = -(-len(raw) // ROWS) if len(raw) else 1
    raw, scores = np.asarray(raw[::step], np.float64), np.asarray(scores[::step], np.float64)
    weights = None if weights is None else weights[::step]
    z = _logit(raw) if space == "probability" else raw
    slopes, offsets = platt_per_model(z, scores, weights, strength=strength)
    low, high = _range(raw, space)
    grid = np.linspace(low, high, KNOTS)
    grid_z = _logit(grid) if space == "probability" else grid
    table = _sigmoid(grid_z * slopes + offsets)
    if shape == "isotonic":
        p, w = _sigmoid(z * slopes + offsets), _spread(weights, z.shape)
        table = np.stack(
            [_corrected(table[:, m], p, scores, w, m, strength) for m in range(p.shape[1])], axis=1
        )
    scale = (KNOTS - 1) / (high - low)
    return Calibration(
        low.astype(np.float32), scale.astype(np.float32), np.ascontiguousarray(table.T, np.float32)
    )


def _corrected(
    curve: Floats, p: Floats, scores: Floats, w: Floats, model: int, strength: float
) -> Floats:
    """A model's Platt curve after the isotonic correction, its own and the pooled one mixed by labels."""
    pairs = np.isfinite(p) & np.isfinite(scores)
    if not pairs.any():
        return curve
    pooled = _smooth(curve, *isotonic(p[pairs], scores[pairs], w[pairs]))
    seen = pairs[:, model]
    if not seen.any():
        return pooled
    own = _smooth(curve, *isotonic(p[seen, model], scores[seen, model], w[seen, model]))
    share = seen.sum() / (seen.sum() + 100.0 * strength)
    mixed = share * own + (1.0 - share) * pooled
    # A tenth of the Platt curve keeps the order strict on the flat steps that pooling leaves.
    return np.asarray(0.9 * mixed + 0.1 * curve)


def _smooth(curve: Floats, x: Floats, y: Floats) -> Floats:
    """`curve` moved by the correction at the knots, linear between them, constant outside."""
    moved = np.clip(curve + np.interp(curve, x, y - x), 0.0, 1.0)
    return np.maximum.accumulate(moved)


def _range(raw: Floats, space: Space) -> tuple[Floats, Floats]:
    """Where each model's curve begins and ends."""
    models = raw.shape[1]
    if space == "probability":
        return np.zeros(models), np.ones(models)
    finite = np.where(np.isfinite(raw), raw, np.nan)
    seen = np.isfinite(finite).any(axis=0)
    safe = np.where(seen, finite, 0.0)
    low, high = np.nanmin(safe, axis=0), np.nanmax(safe, axis=0)
    margin = 0.1 * (high - low) + 0.5  # a prompt beyond all training rows still moves a little
    return low - margin, high + margin


def _spread(weights: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Row weights for every pair."""
    if weights is None:
        return np.ones(shape)
    return np.broadcast_to(np.asarray(weights, np.float64)[:, None], shape)


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -LOGIT_LIMIT, LOGIT_LIMIT))))


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def expected_calibration_error(
    p: Floats, y: Floats, *, bins: int = 15, equal: Literal["mass", "width"] = "mass"
) -> float:
    """Mean distance between what was predicted and what came, over bins weighted by their rows.

    Naeini et al. (2015), "Obtaining well calibrated probabilities using Bayesian binning". All finite pairs of
    a matrix count together.

    Args:
        p: predicted probabilities, any shape.
        y: labels in [0, 1], the same shape; NaN where nobody measured.
        bins: how many.
        equal: bins of the same number of pairs, or of the same width in `p`.

    Returns:
        The error in [0, 1]; NaN where there is no pair.
    """
    seen = np.isfinite(p) & np.isfinite(y)
    said, came = np.asarray(p, np.float64)[seen], np.asarray(y, np.float64)[seen]
    if not len(said):
        return float("nan")
    if equal == "mass":
        order = np.argsort(said, kind="stable")
        bin_of = np.empty(len(said), np.int64)
        bin_of[order] = np.arange(len(said)) * bins // len(said)
    else:
        bin_of = np.minimum((said * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(bin_of, said - came, bins)
    return float(np.abs(gaps).sum() / len(said))


def calibration_error_per_model(
    p: Floats, y: Floats, *, bins: int = 15, equal: Literal["mass", "width"] = "mass"
) -> list[float]:
    """`expected_calibration_error` of each column; with few rows most of it is chance, about sqrt(bins / 8n)."""
    return [
        expected_calibration_error(p[:, m], y[:, m], bins=bins, equal=equal)
        for m in range(p.shape[1])
    ]
