"""`mlp`: a network with one hidden layer and a sigmoid per model.

Several networks that were trained from different seeds serve as one: their hidden layers stand side by side and
their logits are averaged, which in NumPy is the same two matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, array


class MlpEstimator(Estimator):
    """P = calibration(relu(x W1 + b1) W2 + b2); W1 (d, h), W2 (h, M)."""

    kind: ClassVar[str] = "mlp"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        hidden: Matrix,
        hidden_bias: Matrix,
        output: Matrix,
        output_bias: Matrix,
        calibration: Calibration,
    ) -> None:
        super().__init__(models)
        self.hidden, self.hidden_bias = hidden, hidden_bias
        self.output, self.output_bias = output, output_bias
        self.calibration = calibration

    def logits(self, x: Matrix) -> Matrix:
        """What is calibrated: (n, M), unbounded."""
        active = x @ self.hidden
        active += self.hidden_bias
        np.maximum(active, np.float32(0.0), out=active)
        z = active @ self.output
        z += self.output_bias
        return np.asarray(z, np.float32)

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (n, M)."""
        return self.calibration.apply(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Weights, biases and calibration."""
        arrays = {
            "hidden": self.hidden,
            "hidden_bias": self.hidden_bias,
            "output": self.output,
            "output_bias": self.output_bias,
        }
        return arrays | self.calibration.arrays(), {}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose state this was.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        hidden = array(arrays, "hidden", (None, None))
        width, count = hidden.shape[1], len(models)
        return cls(
            models,
            hidden=hidden,
            hidden_bias=array(arrays, "hidden_bias", (width,)),
            output=array(arrays, "output", (width, count)),
            output_bias=array(arrays, "output_bias", (count,)),
            calibration=Calibration.restore(count, arrays),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The logit of each model before calibration, and how many hidden units answered."""
        z = self.logits(x[:1])[0]
        active = int((x[:1] @ self.hidden + self.hidden_bias > 0).sum())
        return {
            "logits": {m: round(float(v), 4) for m, v in zip(self.models, z, strict=True)},
            "active_units": active,
        }


class MlpStrategy(LearnedStrategy):
    """Scores candidates with a small neural network."""

    name: ClassVar[str] = "mlp"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"mlp": MlpEstimator}
