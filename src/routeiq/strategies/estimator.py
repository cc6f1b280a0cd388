"""What every learned strategy has inside: features in, a calibrated P(good answer) per model out. NumPy only.

Fitting lives in `routeiq.training.fitting`; here is only what serving needs, exported as plain arrays, so that
an artifact is data (no pickle) and a request needs no scikit-learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]


class Estimator(ABC):
    """Predicts quality. `models` names the columns; rows are what `routeiq.embeddings.Features` gives."""

    kind: ClassVar[str]

    def __init__(self, models: tuple[str, ...]) -> None:
        self.models = models

    @abstractmethod
    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer: (rows, features) to (rows, models), each in [0, 1], finite."""

    def predict_with_trust(self, x: Matrix) -> tuple[Matrix, Matrix | None]:
        """`predict`, and how far to follow it: (rows,), 1 like the training data, 0 unlike any of it.

        `None` where the estimator cannot tell. What is not trusted is left to the untrained prior.
        """
        return self.predict(x), None

    @abstractmethod
    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All that `restore` needs: named arrays, and settings that JSON can hold."""

    @classmethod
    @abstractmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was. Arrays may be read-only maps of a file: use, do not copy.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """

    def explain(self, x: Matrix) -> dict[str, Any]:
        """Why it predicts what it does for one row: neighbours, cluster, abilities. For people, not for speed."""
        return {}
