"""Penalised logistic regression: one line per model over the features, through a sigmoid.

The calibration is part of the coefficients: a Platt curve of a line is a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Space, array, sigmoid

SHOWN = 8
"""Columns that an explanation names per model."""


class LogisticEstimator(Estimator):
    """sigmoid(z W + b) with z the features in `space`; `coefficients` (r, M), `intercepts` (M,)."""

    kind: ClassVar[str] = "logistic"

    def __init__(
        self, models: tuple[str, ...], *, space: Space, coefficients: Matrix, intercepts: Matrix
    ) -> None:
        super().__init__(models)
        self.space, self.coefficients, self.intercepts = space, coefficients, intercepts

    def logits(self, x: Matrix) -> Matrix:
        """Log odds of a good answer, (rows, models)."""
        z: Matrix = self.space.apply(x) @ self.coefficients
        z += self.intercepts
        return z

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (rows, models)."""
        return sigmoid(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for an artifact."""
        own = {"coefficients": self.coefficients, "intercepts": self.intercepts}
        return self.space.arrays() | own, {"embedding_dimension": self.space.embedding_dimension}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was."""
        space = Space.restore(arrays, settings)
        shape = (len(space.mean), len(models))
        return cls(
            models,
            space=space,
            coefficients=array(arrays, "coefficients", shape),
            intercepts=array(arrays, "intercepts", (len(models),)),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The feature columns that move each model's log odds most for this row, and by how much."""
        z = self.space.apply(x[:1])[0]
        parts = z[:, None] * self.coefficients
        shown = {}
        for m, model in enumerate(self.models):
            largest = np.argsort(-np.abs(parts[:, m]), kind="stable")[:SHOWN].tolist()
            columns = [{"column": i, "log_odds": float(parts[i, m])} for i in largest]
            shown[model] = {"intercept": float(self.intercepts[m]), "columns": columns}
        return {"contributions": shown}


class LogisticStrategy(LearnedStrategy):
    """Routes by a logistic regression per model."""

    name = "logistic"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"logistic": LogisticEstimator}
