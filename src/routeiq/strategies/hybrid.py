"""`hybrid`: the stack of several estimators, folded into a few matrix products. The default for learned routing.

It adds up, for each model:

* a kernel ridge regression of the outcomes, on landmarks (prompts like this one did so);
* a mean of the outcomes around the nearest landmarks, weighted by a sharper kernel;
* a mixture over tasks: how likely the prompt belongs to each task of the training data, times how the model did
  there;
* a small neural network.

Stacking weights are in the matrices already. `routeiq.training.fitting.hybrid` says how they come about, and
docs/adr/0011-hybrid.md why these parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, Space, array, number, sigmoid, softmax

TINY = 1e-12
"""A similarity that is as good as none."""


class HybridEstimator(Estimator):
    """P = calibration(k K + base + s N + softmax(k W + w) T + sigmoid(relu(z H + h) O + o) A).

    z are the features in a `Space`; k (n, L) Gaussian similarities exp(-gamma |z - l|^2) to landmarks l (L, d),
    and s = k ** sharpness / its sum.
    """

    kind: ClassVar[str] = "hybrid"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        space: Space,
        arrays: Arrays,
        gamma: float,
        sharpness: float,
        near: float,
        tasks: tuple[str, ...],
        calibration: Calibration,
    ) -> None:
        """Take the matrices.

        Args:
            models: M names of columns.
            space: where distances are taken.
            arrays: `first` (d, L + h) and `first_bias` (L + h,): 2 gamma l' and -gamma |l|^2, then the network's
                hidden layer; `kernel` (L, M + T) and `kernel_bias` (M + T,): the regression, then task logits;
                `neighbour_scores` (L, M); `task_scores` (T, M); `network` (h, N), `network_bias` (N,),
                `network_mix` (N, M).
            gamma: of the kernel.
            near: similarity to the nearest landmark from which on a row is trusted.
            sharpness: how much narrower the neighbours' kernel is.
            tasks: T names, for explanations; none where the training data has no tasks.
            calibration: of the sum.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        super().__init__(models)
        count, width = len(models), len(tasks)
        self._kernel = array(arrays, "kernel", (None, count + width))
        self._marks = self._kernel.shape[0]
        self._network = array(arrays, "network", (None, None))
        outputs = self._network.shape[1]
        units = self._marks + self._network.shape[0]
        self._first = array(arrays, "first", (len(space.mean), units))
        self._first_bias = array(arrays, "first_bias", (units,))
        self._kernel_bias = array(arrays, "kernel_bias", (count + width,))
        self._neighbour_scores = array(arrays, "neighbour_scores", (self._marks, count))
        self._task_scores = array(arrays, "task_scores", (width, count))
        self._network_bias = array(arrays, "network_bias", (outputs,))
        self._network_mix = array(arrays, "network_mix", (outputs, count))
        self.space, self.gamma, self.sharpness = space, float(gamma), float(sharpness)
        self.near = max(float(near), TINY)
        self.tasks, self.calibration = tasks, calibration

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (n, M)."""
        return self.calibration.apply(self.raw(x))

    def predict_with_trust(self, x: Matrix) -> tuple[Matrix, Matrix]:
        """`predict`, and how far the training data backs each row (n,): 1 among it, 0 far from all of it.

        What is predicted for prompts without trust is hardly more than the models' means: a strategy does better
        to blend in the prior by `1 - trust` there.
        """
        units, near = self._units(x)
        trust = np.exp(near.max(axis=1)) / np.float32(self.near)
        np.minimum(trust, np.float32(1.0), out=trust)
        return self.calibration.apply(self._raw(units, near)), trust

    def raw(self, x: Matrix) -> Matrix:
        """What is calibrated: about a probability, (n, M)."""
        return self._raw(*self._units(x))

    def _raw(self, units: Matrix, near: Matrix) -> Matrix:
        count, marks = len(self.models), self._marks
        around = near * np.float32(self.sharpness)
        out = np.exp(near, out=near) @ self._kernel
        out += self._kernel_bias
        total: Matrix = softmax(around) @ self._neighbour_scores
        total += out[:, :count]
        if self.tasks:
            total = total + softmax(out[:, count:]) @ self._task_scores
        if units.shape[1] > marks:
            active = units[:, marks:]
            np.maximum(active, np.float32(0.0), out=active)
            z = active @ self._network
            z += self._network_bias
            total = total + sigmoid(z) @ self._network_mix
        return total

    def _units(self, x: Matrix) -> tuple[Matrix, Matrix]:
        """First layer (n, L + h), and the part of it that are log similarities (n, L)."""
        z = self.space.apply(x)
        units = z @ self._first
        units += self._first_bias
        near = units[:, : self._marks]
        near -= np.float32(self.gamma) * np.einsum("ij,ij->i", z, z)[:, None]
        np.minimum(near, np.float32(0.0), out=near)
        return units, near

    def similarity(self, x: Matrix) -> Matrix:
        """How near the nearest landmark is, (n,), 1 for a prompt of the training data, 0 for one unlike all."""
        return np.asarray(np.exp(self._units(x)[1].max(axis=1)))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The matrices; gamma and the names of the tasks."""
        arrays = {
            "first": self._first,
            "first_bias": self._first_bias,
            "kernel": self._kernel,
            "kernel_bias": self._kernel_bias,
            "neighbour_scores": self._neighbour_scores,
            "task_scores": self._task_scores,
            "network": self._network,
            "network_bias": self._network_bias,
            "network_mix": self._network_mix,
        }
        settings = {
            "gamma": self.gamma,
            "sharpness": self.sharpness,
            "near": self.near,
            "tasks": list(self.tasks),
            "embedding_dimension": self.space.embedding_dimension,
        }
        return arrays | self.space.arrays() | self.calibration.arrays(), settings

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose state this was.

        Raises:
            ValueError: an array or a setting is missing or has the wrong shape.
        """
        tasks = settings.get("tasks")
        if not isinstance(tasks, list | tuple):
            raise ValueError(f"setting 'tasks' must be a list, got {tasks!r}: train it again.")
        return cls(
            models,
            space=Space.restore(arrays, settings),
            arrays=arrays,
            gamma=number(settings, "gamma", float),
            sharpness=number(settings, "sharpness", float),
            near=number(settings, "near", float),
            tasks=tuple(str(task) for task in tasks),
            calibration=Calibration.restore(len(models), arrays),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The likeliest tasks, how near the training data is, and the sum before calibration."""
        x = x[:1]
        similar = np.exp(self._units(x)[1])
        found: dict[str, Any] = {
            "similarity": round(float(similar.max()), 4),
            "raw": {
                name: round(float(value), 4)
                for name, value in zip(self.models, self.raw(x)[0], strict=True)
            },
        }
        if self.tasks:
            count = len(self.models)
            chances = softmax((similar @ self._kernel + self._kernel_bias)[:, count:])[0]
            likeliest = np.argsort(-chances)[:3]
            found["tasks"] = {self.tasks[i]: round(float(chances[i]), 4) for i in likeliest}
        return found


class HybridStrategy(LearnedStrategy):
    """Scores candidates with a stack of estimators; the default once there are some 200 labelled prompts."""

    name: ClassVar[str] = "hybrid"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"hybrid": HybridEstimator}
