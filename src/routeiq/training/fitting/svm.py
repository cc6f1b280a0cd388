"""Fits `svm`: landmarks, Nyström map, squared-hinge machines for all models at once, Platt; all in one matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from routeiq.strategies.numeric import Space
from routeiq.strategies.svm import Landmarks, SvmEstimator
from routeiq.training.table import Table

from .folds import in_chunks, subsample
from .linear import Chosen, Penalty, choose_penalty, fit_line
from .space import EMBEDDING_DIMENSION, fit_space

Matrix = npt.NDArray[np.float32]
LANDMARKS = 320
AXES = 128
GAMMAS = (0.3, 0.7)
PENALTIES = (3.0, 10.0, 30.0)
RATIO = 1.0
LEAST_EIGENVALUE = 1e-3
"""Directions of the landmarks' kernel below that share of the largest are noise that the map would blow up."""
ROWS = 100_000
"""Rows that are fitted on at most."""
SEARCH_ROWS = 6_000
"""Rows that kernel width and penalty are searched and calibrated on at most."""


def fit_svm(
    table: Table,
    *,
    seed: int = 0,
    landmarks: int = LANDMARKS,
    gammas: tuple[float, ...] = GAMMAS,
    penalties: tuple[float, ...] = PENALTIES,
    ratio: float = RATIO,
    embedding_dimension: int = EMBEDDING_DIMENSION,
) -> SvmEstimator:
    """Machines whose kernel width and penalty are chosen by 5-fold squared error, calibrated out of fold.

    Args:
        table: what to learn from; at least one row.
        seed: of landmarks, folds and samples.
        landmarks: training rows that kernels are taken at, at most.
        gammas: kernel widths to try; points have length 1 and a little more.
        penalties: on the shared coefficients, to try.
        ratio: penalty on a model's own coefficients relative to that.
        embedding_dimension: how many of the first feature columns are an embedding.

    Raises:
        ValueError: the table has no row.
    """
    if not len(table):
        raise ValueError("no rows to fit a support vector machine on.")
    space = fit_space(table.features, embedding_dimension=embedding_dimension, axes=AXES)
    points = space.apply(table.features[subsample(table.ids, landmarks, seed=seed + 1)])
    search = table.take(subsample(table.ids, SEARCH_ROWS, seed=seed))
    z = space.apply(search.features)
    tries = [Penalty(shared=one, own=one * ratio) for one in sorted(penalties, reverse=True)]
    found: list[tuple[Chosen, Landmarks, Matrix]] = []
    for gamma in gammas:
        marks = Landmarks(space, points, gamma)
        to_map = nystroem(marks)
        mapped = marks.of_points(z) @ to_map
        chosen = choose_penalty(mapped, search, tries, seed=seed, loss="squared_hinge")
        found.append((chosen, marks, to_map))
    return _final(table, space, *min(found, key=lambda one: one[0].error), seed=seed)


def _final(
    table: Table, space: Space, chosen: Chosen, marks: Landmarks, to_map: Matrix, *, seed: int
) -> SvmEstimator:
    """The machine on all rows with what was chosen, as one matrix from kernel values to log odds."""
    kept = subsample(table.ids, ROWS, seed=seed)
    mapped = in_chunks(lambda x: marks.kernel(x) @ to_map, table.features[kept])
    line = fit_line(
        mapped,
        table.scores[kept],
        table.weights[kept],
        chosen.penalty,
        loss="squared_hinge",
    )
    coefficients, intercepts = chosen.calibrated(line)
    return SvmEstimator(
        table.models,
        landmarks=marks,
        coefficients=np.ascontiguousarray(to_map @ coefficients),
        intercepts=intercepts,
    )


def nystroem(marks: Landmarks) -> Matrix:
    """The map (L, rank) from kernel values at landmarks to features whose products are the kernel."""
    kernel = marks.of_points(marks.points).astype(np.float64)
    values, vectors = np.linalg.eigh(0.5 * (kernel + kernel.T))
    kept = values > LEAST_EIGENVALUE * values[-1]
    out: Matrix = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return np.ascontiguousarray(out)
