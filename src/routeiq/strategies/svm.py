"""Support vector machine with a Gaussian kernel over landmarks (Nyström), a line per model, Platt's sigmoid.

The Nyström map (Williams & Seeger 2001) is linear in the kernel values, and so are the machine and the argument of
Platt's sigmoid: all three are one matrix from landmarks to models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Space, array, number, sigmoid

SHOWN = 5
"""Landmarks that an explanation lists."""


class Landmarks:
    """Kernel values exp(-gamma |z - landmark|^2) of prompts at `points` (L, r) of a space."""

    __slots__ = ("_scaled", "_squared", "gamma", "points", "space")

    def __init__(self, space: Space, points: Matrix, gamma: float) -> None:
        self.space, self.points, self.gamma = space, points, gamma
        self._scaled = np.ascontiguousarray(points.T * np.float32(2.0 * gamma))
        self._squared = (points**2).sum(axis=1) * np.float32(gamma)

    def kernel(self, x: Matrix) -> Matrix:
        """Kernel values of rows of features, (n, L)."""
        return self.of_points(self.space.apply(x))

    def of_points(self, z: Matrix) -> Matrix:
        """The same for rows that are points of the space already."""
        values: Matrix = z @ self._scaled
        values -= self._squared
        length = np.einsum("ij,ij->i", z, z)
        length *= np.float32(self.gamma)
        values -= length[:, None]
        np.exp(values, out=values)
        return values


class SvmEstimator(Estimator):
    """sigmoid(kernel values @ `coefficients` (L, M) + `intercepts` (M,))."""

    kind: ClassVar[str] = "svm"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        landmarks: Landmarks,
        coefficients: Matrix,
        intercepts: Matrix,
    ) -> None:
        super().__init__(models)
        self.landmarks = landmarks
        self.coefficients, self.intercepts = coefficients, intercepts

    def logits(self, x: Matrix) -> Matrix:
        """Log odds of a good answer, (rows, models)."""
        z: Matrix = self.landmarks.kernel(x) @ self.coefficients
        z += self.intercepts
        return z

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (rows, models)."""
        return sigmoid(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for an artifact."""
        space = self.landmarks.space
        own = {
            "landmarks": self.landmarks.points,
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
        }
        settings = {
            "gamma": self.landmarks.gamma,
            "embedding_dimension": space.embedding_dimension,
        }
        return space.arrays() | own, settings

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was."""
        space = Space.restore(arrays, settings)
        width = len(space.mean) if space.axes is None else space.axes.shape[1]
        points = array(arrays, "landmarks", (None, width))
        return cls(
            models,
            landmarks=Landmarks(space, points, number(settings, "gamma", float)),
            coefficients=array(arrays, "coefficients", (len(points), len(models))),
            intercepts=array(arrays, "intercepts", (len(models),)),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The landmarks (training rows) nearest to a row, by kernel value, and each model's log odds."""
        values = self.landmarks.kernel(x[:1])[0]
        nearest = np.argsort(-values, kind="stable")[:SHOWN].tolist()
        odds = self.logits(x[:1])[0].tolist()
        return {
            "landmarks": [{"landmark": i, "kernel": float(values[i])} for i in nearest],
            "log_odds": dict(zip(self.models, odds, strict=True)),
        }


class SvmStrategy(LearnedStrategy):
    """Routes by a support vector machine per model."""

    name = "svm"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"svm": SvmEstimator}
