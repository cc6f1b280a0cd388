"""`adaptive`: an offline estimator that goes on learning from feedback on the answers that were given.

Score = offline prediction + what feedback has moved it by (`posterior.py`), times the share of calls that the
model has answered of late. A small share of requests explores (the router draws uniformly among the eligible and
records the propensities), a larger one for a while after a drift test has fired.

Only means are compared: sampling from the posteriors (Thompson) cost more on 4,000 requests than it earned, see
docs/adr/0013-objective.md. Explicit feedback is learned wherever it comes from: the residual is taken against the
offline prediction for that very prompt, so that which prompts a model was chosen for does not bias it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from routeiq.registry import strategy_class
from routeiq.types import (
    Attempt,
    Candidate,
    Decision,
    JsonObject,
    Outcome,
    RoutingRequest,
    StrategyTraits,
)

from .cluster import Centroids
from .estimator import Arrays, Estimator, Matrix
from .hybrid import HybridEstimator
from .learned import LearnedOptions, LearnedStrategy
from .posterior import ClusterPosteriors, Exploration
from .prior import difficulty
from .reliability import Reliability

PLANES = 5
"""Random hyperplanes that cut the prompt space into 2**5 cells where an artifact brings no centres."""
DIFFICULTIES = 4
"""Cells by difficulty where there is no artifact at all."""
_BASE = "base."
_CELLS = "cells."


class AdaptiveEstimator(Estimator):
    """An offline estimator of any built-in kind, and the cells in which feedback is collected."""

    kind: ClassVar[str] = "adaptive"

    def __init__(self, base: Estimator, cells: Centroids) -> None:
        super().__init__(base.models)
        self.base = base
        self.cells = cells

    def predict(self, x: Matrix) -> Matrix:
        """What the offline estimator says."""
        return self.base.predict(x)

    def cell(self, features: npt.NDArray[np.float32]) -> int:
        """The cell of one prompt."""
        return int(self.cells.weights(features[None, :])[0].argmax())

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The offline estimator's arrays and settings, and the cells'."""
        base, settings = self.base.state()
        cells, cell_settings = self.cells.state()
        arrays = {_BASE + name: one for name, one in base.items()}
        arrays |= {_CELLS + name: one for name, one in cells.items()}
        return arrays, {"base": self.base.kind, "settings": settings, "cells": cell_settings}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The estimator whose `state` this was.

        Raises:
            ValueError: an array or a setting is missing or wrong, or the base is of an unknown kind.
        """
        kind = str(settings.get("base"))
        strategy = strategy_class(kind)
        known = strategy.estimators.get(kind) if issubclass(strategy, LearnedStrategy) else None
        if known is None:
            raise ValueError(f"{kind!r} has no estimator to build on: train the artifact again.")
        base = known.restore(models, _under(arrays, _BASE), settings.get("settings", {}))
        cells = Centroids.restore(_under(arrays, _CELLS), settings.get("cells", {}))
        return cls(base, cells)

    def explain(self, x: Matrix) -> dict[str, Any]:
        """What the offline estimator explains, and the cell."""
        return {**self.base.explain(x), "cell": self.cell(x[0])}


class AdaptiveStrategy(LearnedStrategy):
    """Offline predictions, moved by feedback; explores a little, and more when a model has changed."""

    name: ClassVar[str] = "adaptive"
    traits: ClassVar[StrategyTraits] = StrategyTraits(
        scores="quality", needs_embedding=True, learns_online=True
    )
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {
        "adaptive": AdaptiveEstimator,
        "hybrid": HybridEstimator,
    }

    class Options(LearnedOptions):
        """Options of `adaptive`."""

        exploration: Annotated[float, Field(ge=0.0, le=0.5)] = 0.015
        """Share of requests that go to a random eligible model."""
        alarm_exploration: Annotated[float, Field(ge=0.0, le=0.5)] = 0.12
        """The same right after a model was found to have changed."""
        alarm_half_life: Annotated[float, Field(ge=1.0)] = 150.0
        """Requests until half of the additional exploration is gone."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._exploration = Exploration(
            self.options.exploration, self.options.alarm_exploration, self.options.alarm_half_life
        )
        self._reliability = Reliability()
        self._posteriors: dict[int, ClusterPosteriors] = {}
        self._planes: npt.NDArray[np.float32] | None = None
        self._drifted: dict[str, str] = {}

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Predicted quality of each candidate's answer, as far as feedback goes, in [0, 1]."""
        offline = super().score(request, candidates)
        cells, cell = self._cell(request)
        move = self._of(cells).move
        reliable = self._reliability.share
        scores = []
        for candidate, score in zip(candidates, offline, strict=True):
            group = candidate.deployment.group
            moved = score + move(group, cell)
            moved = 0.0 if moved < 0.0 else min(moved, 1.0)
            scores.append(moved * reliable(group))
        return scores

    def exploration(self, request: RoutingRequest) -> float:
        """A small share, more of it after an alarm."""
        return self._exploration.next()

    def learn(self, request: RoutingRequest, decision: Decision, reward: float) -> None:
        """Learn that the answer of `decision.chosen` was worth `reward`.

        `chosen` must be the deployment that answered: after a fallback, a decision whose ranking begins with it.
        """
        deployment = decision.chosen
        offline = super().score(request, [Candidate(deployment=deployment)])[0]
        cells, cell = self._cell(request)
        reward = min(1.0, max(0.0, reward))
        drift = self._of(cells).learn(deployment.group, cell, reward, offline)
        if drift is not None:
            self._drifted[deployment.group] = drift
            self._exploration.alarm()

    def observe(self, decision: Decision, outcome: Outcome) -> None:
        """Learn from which calls were answered at all."""
        groups = {ranked.deployment.id: ranked.deployment.group for ranked in decision.ranking}
        for attempt in outcome.attempts:
            group = groups.get(attempt.deployment_id)
            if group is not None and (fault := _fault(attempt)) is not None:
                self._reliability.add(group, answered=not fault)

    def report(self) -> JsonObject:
        """The artifact, exploration, alarms, and what feedback has moved."""
        return {
            **super().report(),
            "exploration": self._exploration.share,
            "drift_alarms": self._exploration.alarms,
            "drifted": dict(self._drifted),
            "reliability": self._reliability.report(),
            "posteriors": {
                str(cells): learned.report() for cells, learned in self._posteriors.items()
            },
        }

    def snapshot(self) -> JsonObject:
        """What was learned, as JSON, for `restore` in another process or after a restart."""
        return {
            "artifact": self.loaded.artifact.manifest.version if self.loaded else None,
            "posteriors": [learned.snapshot() for learned in self._posteriors.values()],
            "reliability": self._reliability.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave; moves against another artifact's predictions mean nothing and are left.

        Raises:
            ValueError: it is not a snapshot.
        """
        self._reliability.restore(state.get("reliability", {}))
        version = self.loaded.artifact.manifest.version if self.loaded else None
        if state.get("artifact") != version:
            return
        for one in state.get("posteriors", ()):
            learned = ClusterPosteriors(int(one.get("cells", 0)))
            learned.restore(one)
            self._posteriors[learned.cells] = learned

    def reload(self, context: Any) -> bool:
        """Take another artifact; what was learned against the old one's predictions is dropped."""
        changed = super().reload(context)
        if changed:
            self._posteriors = {}
        return changed

    def _of(self, cells: int) -> ClusterPosteriors:
        """The posteriors over so many cells: their number changes with the artifact, or without one."""
        found = self._posteriors.get(cells)
        if found is None:
            found = self._posteriors[cells] = ClusterPosteriors(cells)
        return found

    def _cell(self, request: RoutingRequest) -> tuple[int, int | None]:
        """How many cells there are, and which one the prompt is in (`None`: features are not ready)."""
        loaded = self.loaded
        if loaded is None:
            return DIFFICULTIES, min(int(difficulty(request) * DIFFICULTIES), DIFFICULTIES - 1)
        estimator = loaded.estimator
        count = 1 << PLANES
        if isinstance(estimator, AdaptiveEstimator):
            count = len(estimator.cells.centres)
        if self.predict(request) is None:
            return count, None
        features = loaded.features.one(request)
        if isinstance(estimator, AdaptiveEstimator):
            return count, estimator.cell(features)
        width = loaded.features.embedding_dimension
        if self._planes is None or self._planes.shape[0] != width:
            draw = np.random.default_rng(0).standard_normal((width, PLANES))
            self._planes = draw.astype(np.float32)
        side = features[:width] @ self._planes > 0.0
        return 1 << PLANES, int(side @ (1 << np.arange(PLANES)))


def _under(arrays: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name[len(prefix) :]: one for name, one in arrays.items() if name.startswith(prefix)}


def _fault(attempt: Attempt) -> bool | None:
    """Whether the model failed; `None` where the caller was at fault, or left."""
    if attempt.error is None:
        return False
    if attempt.status is None or attempt.status >= 500 or attempt.status == 429:
        return True
    return None
