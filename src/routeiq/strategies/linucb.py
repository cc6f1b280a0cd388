"""`linucb`: one ridge regression per model on a few shared features of the prompt, with an upper confidence bound.

L. Li et al., A contextual-bandit approach to personalized news article recommendation (WWW 2010), the disjoint
model, over a projection of the features to a few dimensions so that an update is a product of small matrices
(Sherman and Morrison). With forgetting, so that old outcomes fade.

Experimental: from cold it stayed behind the best single model over 4,265 steady requests, and from an offline fit
it is behind `adaptive` (docs/adr/0013-objective.md). It is here for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from routeiq.types import Candidate, Decision, JsonObject, RoutingRequest, StrategyTraits

from .estimator import Arrays, Estimator, Matrix
from .learned import LearnedOptions, LearnedStrategy
from .numeric import Space, array

Floats = npt.NDArray[np.float64]
LARGEST = 1e3
"""Largest variance of a coefficient: forgetting would let it grow without bound where nothing is observed."""


class LinucbEstimator(Estimator):
    """P = [z, 1] theta with z the projected features; `inverse` are the models' inverse Gram matrices.

    `theta` (M, r + 1) and `inverse` (M, r + 1, r + 1) are float64: the updates accumulate.
    """

    kind: ClassVar[str] = "linucb"

    def __init__(
        self, models: tuple[str, ...], *, space: Space, theta: Floats, inverse: Floats
    ) -> None:
        super().__init__(models)
        self.space = space
        self.theta = theta
        self.inverse = inverse

    def project(self, x: Matrix) -> Floats:
        """The few features and a 1: (n, r + 1)."""
        z = self.space.apply(x)
        return np.concatenate([z, np.ones((len(z), 1))], axis=1, dtype=np.float64)

    def predict(self, x: Matrix) -> Matrix:
        """The mean, without the bound: (n, M) in [0, 1]."""
        found: Matrix = np.clip(self.project(x) @ self.theta.T, 0.0, 1.0).astype(np.float32)
        return found

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Projection, coefficients and inverse Gram matrices."""
        arrays = self.space.arrays() | {"theta": self.theta, "inverse": self.inverse}
        return arrays, {"embedding_dimension": self.space.embedding_dimension}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was; what is learned on top needs copies.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        space = Space.restore(arrays, settings)
        width = (len(space.mean) if space.axes is None else space.axes.shape[1]) + 1
        theta = array(arrays, "theta", (len(models), width), np.float64)
        inverse = array(arrays, "inverse", (len(models), width, width), np.float64)
        return cls(models, space=space, theta=theta, inverse=inverse)


class LinearBandit:
    """What is learned online: per column of the estimator, coefficients and their inverse Gram matrix.

    Args:
        theta: where the coefficients start, (M, k).
        inverse: their inverse Gram matrices, (M, k, k).
        forgetting: discount of old outcomes with every new one of the same model; 1 forgets nothing.
    """

    def __init__(self, theta: Floats, inverse: Floats, *, forgetting: float = 1.0) -> None:
        self.theta = np.array(theta, dtype=np.float64)
        self.inverse = np.array(inverse, dtype=np.float64)
        self._forgetting = forgetting
        self.outcomes = [0] * len(theta)

    def means(self, z: Floats) -> Floats:
        """Expected reward per model for one prompt (k,)."""
        found: Floats = self.theta @ z
        return found

    def widths(self, z: Floats) -> Floats:
        """Standard deviation of those means, in units of the noise: sqrt(z' A^-1 z)."""
        found: Floats = np.sqrt(np.maximum(np.einsum("mij,i,j->m", self.inverse, z, z), 0.0))
        return found

    def learn(self, model: int, z: Floats, reward: float) -> None:
        """One recursive least squares step: A = forgetting * A + z z', b likewise."""
        inverse = self.inverse[model] / self._forgetting
        across = inverse @ z
        gain = across / (1.0 + float(z @ across))
        self.theta[model] += gain * (reward - float(self.theta[model] @ z))
        inverse -= np.outer(gain, across)
        trace = float(np.trace(inverse)) / len(z)
        if trace > LARGEST:
            inverse *= LARGEST / trace
        self.inverse[model] = inverse
        self.outcomes[model] += 1


class LinucbStrategy(LearnedStrategy):
    """Linear predictions that learn from feedback, with optimism where little is known."""

    name: ClassVar[str] = "linucb"
    traits: ClassVar[StrategyTraits] = StrategyTraits(
        scores="quality", needs_embedding=True, learns_online=True, maturity="experimental"
    )
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"linucb": LinucbEstimator}

    class Options(LearnedOptions):
        """Options of `linucb`."""

        alpha: Annotated[float, Field(ge=0.0)] = 0.1
        """How many standard deviations of optimism a score has."""
        forgetting: Annotated[float, Field(gt=0.9, le=1.0)] = 0.999
        """Discount of old outcomes with each new one of the same model."""
        exploration: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
        """Share of requests that go to a random eligible model; needed for off-policy estimates from the log."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._bandit: tuple[Estimator, LinearBandit] | None = None

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """The upper confidence bound of each candidate's quality, in [0, 1]; like `prior` without an artifact."""
        loaded, known = self.loaded, self._learner()
        if loaded is None or known is None or self.predict(request) is None:
            return super().score(request, candidates)
        estimator, bandit = known
        z = estimator.project(loaded.features.one(request)[None, :])[0]
        bounds = bandit.means(z) + self.options.alpha * bandit.widths(z)
        bounds = np.clip(bounds, 0.0, 1.0)
        scores = []
        for candidate in candidates:
            place = loaded.place(candidate.deployment)
            scores.append(float(bounds[place] if isinstance(place, int) else bounds @ place))
        return scores

    def exploration(self, request: RoutingRequest) -> float:
        """What the options say; the confidence bound explores by itself."""
        share: float = self.options.exploration
        return share

    def learn(self, request: RoutingRequest, decision: Decision, reward: float) -> None:
        """Learn that the answer of `decision.chosen`, the deployment that answered, was worth `reward`."""
        loaded, known = self.loaded, self._learner()
        if loaded is None or known is None or self.predict(request) is None:
            return
        place = loaded.place(decision.chosen)
        if isinstance(place, int):  # a model that the artifact never saw has no column to learn in
            estimator, bandit = known
            z = estimator.project(loaded.features.one(request)[None, :])[0]
            bandit.learn(place, z, min(1.0, max(0.0, reward)))

    def report(self) -> JsonObject:
        """The artifact, and how many outcomes each model's regression has seen since."""
        known = self._learner()
        outcomes = {}
        if known is not None:
            outcomes = dict(zip(known[0].models, known[1].outcomes, strict=True))
        return {**super().report(), "outcomes": outcomes}

    def _learner(self) -> tuple[LinucbEstimator, LinearBandit] | None:
        """The bandit on top of what is loaded; begun anew with every artifact."""
        loaded = self.loaded
        if loaded is None or not isinstance(loaded.estimator, LinucbEstimator):
            return None
        estimator = loaded.estimator
        if self._bandit is None or self._bandit[0] is not estimator:
            forgetting = self.options.forgetting
            bandit = LinearBandit(estimator.theta, estimator.inverse, forgetting=forgetting)
            self._bandit = (estimator, bandit)
        return estimator, self._bandit[1]
