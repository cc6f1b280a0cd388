"""Fits `hybrid`: parts out of fold, stacked on differences between models, calibrated, folded together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from routeiq.strategies.hybrid import HybridEstimator
from routeiq.strategies.mlp import MlpEstimator
from routeiq.strategies.numeric import sigmoid, softmax
from routeiq.training.table import Table

from .adam import base_rates, base_rates_of, bounded
from .calibration import fit_calibration
from .folds import fold_of, in_chunks, splits
from .kernel_ridge import (
    CHUNK,
    Doubles,
    Landmarks,
    Matrix,
    Ridge,
    Solution,
    gaussian,
    solve_outcomes,
)
from .mlp import train_networks
from .space import EMBEDDING_DIMENSION, fit_space
from .stacking import Stack, fit_stack
from .transfer import expansion, scarce, with_models

ROWS = 30_000
"""Rows that the hybrid is fitted on at most (some 1.5 GB while it is)."""
LANDMARKS = 1_000
GAMMAS = (0.35, 0.7, 1.4)
FOLDS = 5
NETWORK_ROWS = 400
"""Rows from which on a neural network takes part."""
LEARN_ROWS = 200
"""Rows from which on the stacking weights are learned; below, equal ones are only shrunk."""
NEARNESS = (4.0, 8.0, 16.0)
"""Sharpness of the neighbours' kernel relative to the regression's, to choose from."""
NEIGHBOUR_SHRINK = 1.0
"""Labels with which the mean around a landmark is pulled to the model's mean."""
TRUSTED = 0.02
"""Share of rows like those of the training data that may be further from it than what is fully trusted."""
POOLED = 1_000.0
"""Pull of the models' calibration curves to a common one: the stack is right on average already, and curves of
their own distort the differences between models (measured: 0.002 APGR)."""
TASKS = 64
TASK_ROWS = 12
"""Rows that a task needs to count as one."""
TASK_SHRINK = 5.0
"""Labels with which a task's mean is pulled to the model's mean."""
SHARPNESS = (3.0, 5.0, 8.0, 12.0, 20.0)
"""Factors tried between regressed task indicators and the logits of the softmax."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tasks:
    """The task classifier, and the models' means (T, M) by task."""

    names: tuple[str, ...]
    solution: Solution
    sharpness: float
    scores: Doubles

    def mixture(self, indicators: Doubles) -> Doubles:
        """Expected scores (n, M) given the regressed indicators (n, T)."""
        return np.asarray(_softmax(self.sharpness * indicators) @ self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Neighbours:
    """Mean outcomes around each landmark (L, M), and how sharply to look at the nearest ones."""

    scores: Doubles
    sharpness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Everything that is fitted on one set of rows, before stacking."""

    landmarks: Landmarks
    direct: Solution
    neighbours: _Neighbours
    tasks: _Tasks | None
    residual: Solution | None
    network: MlpEstimator | None

    @property
    def count(self) -> int:
        """How many parts there are."""
        return 2 + 2 * (self.tasks is not None) + (self.network is not None)

    def predict(self, x: Matrix) -> Matrix:
        """Predictions of the parts (P, n, M).

        Regression, neighbours, where there are tasks their mixture and that with its residual, a network.
        """
        f = self.landmarks.features(x)
        parts: list[Matrix | Doubles] = [self.direct(f), self.around(x)]
        if self.tasks is not None and self.residual is not None:
            mixture = self.tasks.mixture(self.tasks.solution(f))
            parts += [mixture, mixture + self.residual(f)]
        if self.network is not None:
            parts.append(sigmoid(in_chunks(self.network.logits, x)))
        return np.stack(parts).astype(np.float32)

    def similarity(self, x: Matrix) -> Matrix:
        """Of each row to the nearest landmark, (n,)."""
        near: Matrix = gaussian(x, self.landmarks.points, self.landmarks.gamma).max(axis=1)
        return near

    def around(self, x: Matrix) -> Doubles:
        """What the nearest landmarks' neighbourhoods scored, (n, M)."""
        near, marks = self.neighbours, self.landmarks
        parts = [
            softmax(near.sharpness * distances(x[i : i + CHUNK], marks)) @ near.scores
            for i in range(0, len(x), CHUNK)
        ]
        return np.concatenate(parts)


def fit_hybrid(
    table: Table,
    *,
    seed: int = 0,
    landmarks: int = LANDMARKS,
    gamma: float | None = None,
    network: bool = True,
    tasks: bool = True,
    folds: int = FOLDS,
    embedding_dimension: int = EMBEDDING_DIMENSION,
    progress: Callable[[str], None] | None = None,
) -> HybridEstimator:
    """Fit all parts, out of fold for the stacking weights and the calibration, then on all rows.

    Args:
        table: rows; NaN scores are missing.
        seed: of landmarks, networks and folds.
        landmarks: how many points the kernel has at most.
        gamma: of the kernel; by default the one of `GAMMAS` with the least leave-one-out error.
        network: whether a neural network takes part (from `NETWORK_ROWS` rows on).
        tasks: whether the rows' task labels are used.
        folds: for stacking and calibration.
        embedding_dimension: how many of the first feature columns are an embedding.
        progress: told what is done.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit a hybrid on.")
    table = bounded(table, seed, ROWS)
    space = fit_space(table.features, embedding_dimension=embedding_dimension)
    table = replace(table, features=space.apply(table.features))
    told = progress or (lambda _: None)
    few = scarce(table.scores)
    known = with_models(table, np.flatnonzero(~few)) if few.any() else table
    gamma = _gamma(known, landmarks, seed) if gamma is None else gamma
    names = _names(table) if tasks else ()
    with_network = network and len(table) >= NETWORK_ROWS
    told(f"hybrid: kernel width {gamma:g}, {len(names)} tasks, {int(few.sum())} models by transfer")

    def fit(part: Table) -> _Parts:
        return _fit(part, names, gamma=gamma, landmarks=landmarks, seed=seed, network=with_network)

    whole = fit(known)
    held, similar = _out_of_fold(fit, known, whole.count, folds=folds, seed=seed, told=told)
    rates = base_rates(known).astype(np.float64)
    learn = len(table) >= LEARN_ROWS
    stack = fit_stack(held, known.scores, known.weights, rates, learn=learn)
    stacked = stack(np.nan_to_num(held, nan=float(rates.mean())))
    spread, offset = expansion(table.scores, few, stacked, table.weights, rates)
    calibration = fit_calibration(
        np.clip(stacked @ spread + offset, 0.0, 1.0), table.scores, table.weights, strength=POOLED
    )
    arrays = _expanded(_fold_up(whole, stack), len(known.models), spread, offset)
    return HybridEstimator(
        table.models,
        space=space,
        arrays={n: np.ascontiguousarray(v, dtype=np.float32) for n, v in arrays.items()},
        gamma=gamma,
        sharpness=whole.neighbours.sharpness,
        near=float(np.quantile(similar, TRUSTED)),
        tasks=names,
        calibration=calibration,
    )


def _out_of_fold(
    fit: Callable[[Table], _Parts],
    table: Table,
    count: int,
    *,
    folds: int,
    seed: int,
    told: Callable[[str], None],
) -> tuple[Matrix, Matrix]:
    """The parts' predictions (P, n, M) of rows that they were not fitted on; NaN where that cannot be.

    And the similarity of each row to the nearest landmark of those fits, (n,).
    """
    similar = np.ones(len(table), np.float32)
    held = np.full((count, *table.scores.shape), np.nan, np.float32)
    groups = [str(group) for group in table.groups.tolist()]  # equal texts stay together
    for number, (kept, out) in enumerate(splits(fold_of(groups, folds, seed=seed)), 1):
        told(f"hybrid: fold {number} of {folds}")
        parts = fit(table.take(kept))
        held[:, out] = parts.predict(table.features[out])
        similar[out] = in_chunks(parts.similarity, table.features[out])
    return held, similar


def _gamma(table: Table, landmarks: int, seed: int) -> float:
    """The kernel width with the least leave-one-out error, on a bounded sample."""
    sample = bounded(table, seed, 3_000)
    errors = []
    for gamma in GAMMAS:
        marks = Landmarks.choose(sample.features, min(landmarks, 500), gamma, seed)
        f = marks.features(sample.features)
        ridge = Ridge(f, sample.weights)
        errors.append(solve_outcomes(f, sample.scores, sample.weights, ridge).error)
    return GAMMAS[int(np.argmin(errors))]


def _names(table: Table) -> tuple[str, ...]:
    """The tasks that have enough rows, most frequent first; none where there is no choice between them."""
    counts = Counter(task for task in table.tasks if task)
    names = [task for task, rows in counts.most_common(TASKS) if rows >= TASK_ROWS]
    return tuple(names) if len(names) >= 2 else ()


def _fit(
    table: Table, names: tuple[str, ...], *, gamma: float, landmarks: int, seed: int, network: bool
) -> _Parts:
    marks = Landmarks.choose(table.features, landmarks, gamma, seed)
    f = marks.features(table.features)
    ridge = Ridge(f, table.weights)
    direct = solve_outcomes(f, table.scores, table.weights, ridge)
    tasks = _fit_tasks(table, names, ridge) if names else None
    residual = None
    if tasks is not None:
        # without the row itself, or the residual would be too small
        rest = (table.scores - tasks.mixture(tasks.solution.left_out)).astype(np.float32)
        residual = solve_outcomes(f, rest, table.weights, ridge)
    return _Parts(
        landmarks=marks,
        direct=direct,
        neighbours=_fit_neighbours(table, marks),
        tasks=tasks,
        residual=residual,
        network=train_networks(table, seed=seed) if network else None,
    )


def distances(x: Matrix, marks: Landmarks) -> Matrix:
    """Logarithms of the similarities to landmarks: -gamma |x - l|^2, (n, L)."""
    return np.log(np.maximum(gaussian(x, marks.points, marks.gamma), np.float32(1e-30)))


def _fit_neighbours(table: Table, marks: Landmarks) -> _Neighbours:
    """Outcomes averaged around each landmark; the sharpness with the least error at the landmarks themselves."""
    rates = base_rates(table).astype(np.float64)
    seen = np.where(np.isfinite(table.scores), table.weights[:, None], np.float32(0.0))
    deviation = np.where(seen > 0.0, table.scores - rates, 0.0) * seen
    best, found = np.inf, np.zeros((len(marks.points), len(rates)))
    chosen = NEARNESS[0]
    for sharpness in NEARNESS:
        total, mass = np.zeros_like(found), np.zeros_like(found)
        error = power = 0.0
        # rows say something about the landmarks around them; a row that is a landmark says most about itself
        for i in range(0, len(table), CHUNK):
            share = softmax(sharpness * distances(table.features[i : i + CHUNK], marks)).astype(
                np.float64
            )
            total += share.T @ deviation[i : i + CHUNK]
            mass += share.T @ seen[i : i + CHUNK]
        means = total / (mass + NEIGHBOUR_SHRINK)
        for i in range(0, len(table), CHUNK):
            rows = slice(i, i + CHUNK)
            share = softmax(sharpness * distances(table.features[rows], marks)).astype(np.float64)
            # without the row's own part in the means around it
            own = (share**2) @ (1.0 / (mass + NEIGHBOUR_SHRINK))
            out = share @ means - own * deviation[rows]
            error += float((((out - deviation[rows]) ** 2) * (seen[rows] > 0.0)).sum())
            power += float((seen[rows] > 0.0).sum())
        if error / max(power, 1.0) < best:
            best, chosen, found = error / max(power, 1.0), sharpness, means
    return _Neighbours(scores=rates + found, sharpness=chosen)


def _softmax(z: Doubles) -> Doubles:
    out = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(out / out.sum(axis=-1, keepdims=True))


def _fit_tasks(table: Table, names: tuple[str, ...], ridge: Ridge) -> _Tasks:
    place = {name: index for index, name in enumerate(names)}
    own = np.array([place.get(task, -1) for task in table.tasks])
    indicators = (own[:, None] == np.arange(len(names))).astype(np.float64)
    solution = ridge.solve(indicators)
    known = np.flatnonzero(own >= 0)

    def surprise(factor: float) -> float:
        chances = _softmax(factor * solution.left_out[known])
        return float(-np.log(chances[np.arange(len(known)), own[known]] + 1e-9).mean())

    sharpness = min(SHARPNESS, key=surprise)
    rates = base_rates_of(table.scores, table.weights).astype(np.float64)
    seen = np.where(np.isfinite(table.scores), table.weights[:, None], 0.0)
    total = indicators.T @ (np.nan_to_num(table.scores) * seen) + TASK_SHRINK * rates
    return _Tasks(
        names=names,
        solution=solution,
        sharpness=sharpness,
        scores=total / (indicators.T @ seen + TASK_SHRINK),
    )


def _fold_up(parts: _Parts, stack: Stack) -> dict[str, Doubles]:
    """Stacking weights multiplied into the parts' matrices."""
    count, marks = len(stack.rates), parts.landmarks
    kernel = parts.direct.coefficients @ stack.mixing(0)
    base = stack.rates + (parts.direct.offset - stack.rates) @ stack.mixing(0)
    logits, logit_bias = np.zeros((kernel.shape[0], 0)), np.zeros(0)
    task_scores = np.zeros((0, count))
    if parts.tasks is not None and parts.residual is not None:
        logits = parts.tasks.sharpness * parts.tasks.solution.coefficients
        logit_bias = parts.tasks.sharpness * parts.tasks.solution.offset
        task_scores = (parts.tasks.scores - stack.rates) @ (stack.mixing(2) + stack.mixing(3))
        kernel = kernel + parts.residual.coefficients @ stack.mixing(3)
        base = base + parts.residual.offset @ stack.mixing(3)
    first = 2.0 * marks.gamma * marks.points.T.astype(np.float64)
    first_bias = -marks.gamma * (marks.points.astype(np.float64) ** 2).sum(axis=1)
    hidden, network = np.zeros((first.shape[0], 0)), np.zeros((0, count))
    hidden_bias, network_bias, mix = np.zeros(0), np.zeros(count), np.zeros((count, count))
    if parts.network is not None:
        hidden = parts.network.hidden.astype(np.float64)
        hidden_bias = parts.network.hidden_bias.astype(np.float64)
        network = parts.network.output.astype(np.float64)
        network_bias = parts.network.output_bias.astype(np.float64)
        mix = stack.mixing(len(stack.differences) - 1)
        base = base - stack.rates @ mix
    return {
        "first": np.concatenate([first, hidden], axis=1),
        "first_bias": np.concatenate([first_bias, hidden_bias]),
        "kernel": marks.projection @ np.concatenate([kernel, logits], axis=1),
        "kernel_bias": np.concatenate([base, logit_bias]),
        "neighbour_scores": (parts.neighbours.scores - stack.rates) @ stack.mixing(1),
        "task_scores": task_scores,
        "network": network,
        "network_bias": network_bias,
        "network_mix": mix,
    }


def _expanded(
    arrays: dict[str, Doubles], count: int, spread: Doubles, offset: Doubles
) -> dict[str, Doubles]:
    """The matrices for all models: outputs of `count` models times `spread` (count, M), plus `offset` (M,)."""
    kernel, bias = arrays["kernel"], arrays["kernel_bias"]
    found = {
        name: arrays[name] @ spread for name in ("neighbour_scores", "task_scores", "network_mix")
    }
    found["kernel"] = np.concatenate([kernel[:, :count] @ spread, kernel[:, count:]], axis=1)
    found["kernel_bias"] = np.concatenate([bias[:count] @ spread + offset, bias[count:]])
    return arrays | found
