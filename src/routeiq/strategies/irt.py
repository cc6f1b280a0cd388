"""`irt`: item response theory. A prompt has a difficulty and asks for abilities; a model has abilities.

The multidimensional two-parameter logistic model (Reckase 2009, "Multidimensional Item Response Theory"), with
discrimination and difficulty functions of the prompt's features, so that prompts never seen have them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, array


class IrtEstimator(Estimator):
    """P = calibration(softplus(x A + a) T' - (x d + d0)); A (d, r), abilities T (M, r), d (d,)."""

    kind: ClassVar[str] = "irt"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        prompt: Matrix,
        prompt_bias: Matrix,
        ability: Matrix,
        calibration: Calibration,
    ) -> None:
        """Take the parts.

        Args:
            models: names of the columns.
            prompt: (d, r + 1); the last column is the difficulty, the others the discriminations before softplus.
            prompt_bias: (r + 1,).
            ability: (M, r).
            calibration: of the logits.
        """
        super().__init__(models)
        self.prompt, self.prompt_bias = prompt, prompt_bias
        self.ability, self.calibration = ability, calibration
        self._across = np.ascontiguousarray(ability.T)

    def items(self, x: Matrix) -> tuple[Matrix, Matrix]:
        """Discriminations (n, r), all positive, and difficulties (n, 1) of prompts."""
        item = x @ self.prompt
        item += self.prompt_bias
        return np.logaddexp(np.float32(0.0), item[:, :-1]), item[:, -1:]

    def logits(self, x: Matrix) -> Matrix:
        """What is calibrated: (n, M), unbounded."""
        discrimination, difficulty = self.items(x)
        z: Matrix = discrimination @ self._across
        z -= difficulty
        return z

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (n, M)."""
        return self.calibration.apply(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Item functions, abilities and calibration."""
        arrays = {"prompt": self.prompt, "prompt_bias": self.prompt_bias, "ability": self.ability}
        return arrays | self.calibration.arrays(), {}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose state this was.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        prompt = array(arrays, "prompt", (None, None))
        width, count = prompt.shape[1], len(models)
        return cls(
            models,
            prompt=prompt,
            prompt_bias=array(arrays, "prompt_bias", (width,)),
            ability=array(arrays, "ability", (count, width - 1)),
            calibration=Calibration.restore(count, arrays),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The prompt's difficulty, how much it asks for each ability, and the models' abilities."""
        discrimination, difficulty = self.items(x[:1])
        return {
            "difficulty": round(float(difficulty[0, 0]), 4),
            "discrimination": [round(float(v), 4) for v in discrimination[0]],
            "ability": {
                name: [round(float(v), 4) for v in row]
                for name, row in zip(self.models, self.ability, strict=True)
            },
        }


class IrtStrategy(LearnedStrategy):
    """Scores candidates by item response theory."""

    name: ClassVar[str] = "irt"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"irt": IrtEstimator}
