"""`mf`: matrix factorisation. A prompt and a model are vectors of a few dimensions; their product is the logit.

The form of RouteLLM's `mf` (Ong et al. 2024, arXiv:2406.18665) and of EmbedLLM (Zhuang et al. 2024,
arXiv:2410.02223), with the prompt's vector a linear map of its features and for any number of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedStrategy
from .numeric import Calibration, array


class MfEstimator(Estimator):
    """P = calibration((x A + a) V' + b); A (d, r), V (M, r)."""

    kind: ClassVar[str] = "mf"

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        prompt: Matrix,
        prompt_bias: Matrix,
        model: Matrix,
        model_bias: Matrix,
        calibration: Calibration,
    ) -> None:
        super().__init__(models)
        self.prompt, self.prompt_bias = prompt, prompt_bias
        self.model, self.model_bias = model, model_bias
        self.calibration = calibration
        self._across = np.ascontiguousarray(model.T)

    def logits(self, x: Matrix) -> Matrix:
        """What is calibrated: (n, M), unbounded."""
        latent = x @ self.prompt
        latent += self.prompt_bias
        z = latent @ self._across
        z += self.model_bias
        return np.asarray(z, np.float32)

    def predict(self, x: Matrix) -> Matrix:
        """Probability of a good answer, (n, M)."""
        return self.calibration.apply(self.logits(x))

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Factors, biases and calibration."""
        arrays = {
            "prompt": self.prompt,
            "prompt_bias": self.prompt_bias,
            "model": self.model,
            "model_bias": self.model_bias,
        }
        return arrays | self.calibration.arrays(), {}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose state this was.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        prompt = array(arrays, "prompt", (None, None))
        rank, count = prompt.shape[1], len(models)
        return cls(
            models,
            prompt=prompt,
            prompt_bias=array(arrays, "prompt_bias", (rank,)),
            model=array(arrays, "model", (count, rank)),
            model_bias=array(arrays, "model_bias", (count,)),
            calibration=Calibration.restore(count, arrays),
        )

    def explain(self, x: Matrix) -> dict[str, Any]:
        """The prompt's vector, each model's offset and what the match adds to it."""
        latent = (x[:1] @ self.prompt + self.prompt_bias)[0]
        match = latent @ self._across
        return {
            "prompt_vector": [round(float(v), 4) for v in latent],
            "offset": _named(self.models, self.model_bias),
            "match": _named(self.models, match),
        }


def _named(models: tuple[str, ...], values: Matrix) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(models, values, strict=True)}


class MfStrategy(LearnedStrategy):
    """Scores candidates by matrix factorisation."""

    name: ClassVar[str] = "mf"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"mf": MfEstimator}
