"""Fit on all rows, calibrate on what was predicted for rows left out: the same for all that give logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from routeiq.strategies.estimator import Matrix
from routeiq.strategies.numeric import Calibration
from routeiq.training.table import Table

from .calibration import fit_calibration
from .folds import fold_of, out_of_fold


class GivesLogits(Protocol):
    """An estimator that predicts logits, which a calibration turns into probabilities."""

    calibration: Calibration

    def logits(self, x: Matrix) -> Matrix:
        """Uncalibrated, (rows, models)."""
        ...


Fitted = TypeVar("Fitted", bound=GivesLogits)


def fit_whole(fit: Callable[[Table], Fitted], table: Table, *, folds: int, seed: int) -> Fitted:
    """The estimator of all rows, with a calibration from `folds` others that each left some out."""
    whole = fit(table)
    fold = fold_of(table.ids, folds, seed=seed)
    raw = out_of_fold(
        lambda rows: fit(table.take(rows)).logits, table.features, fold, len(table.models)
    )
    whole.calibration = fit_calibration(raw, table.scores, table.weights, space="logit")
    return whole
