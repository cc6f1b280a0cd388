"""What all strategies with a trained artifact share: open it, featurise, predict, map columns to candidates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from routeiq.artifacts.artifact import Artifact, open_artifact
from routeiq.artifacts.errors import ArtifactError, MismatchedArtifact
from routeiq.artifacts.store import ArtifactStore
from routeiq.base import Ask, RoutingStrategy
from routeiq.base import Options as BaseOptions
from routeiq.exceptions import ConfigError, Problem
from routeiq.registry import strategy_class
from routeiq.types import (
    Candidate,
    JsonObject,
    LoadContext,
    Margin,
    RoutingRequest,
    StrategyTraits,
)

from .columns import plain
from .estimator import Estimator
from .loading import Loaded, Opener, Vector, restored, restored_twin, settled
from .prior import difficulty, prior_score, quality

_log = logging.getLogger(__name__)
NEGLIGIBLE = 0.01
"""Share of the prior that changes no choice worth the time of computing it."""
SHOWN = 0.05
"""Share of the prior from which on the reason mentions it."""
CERTIFIED = 1e-9
"""Slack when a certificate's epsilon and delta are compared with those that are asked for."""


class LearnedOptions(BaseOptions):
    """Where the artifact is, and how much of the untrained prior stays in the score."""

    artifact: str | None = None
    """Folder of an artifact; by default the active one in ROUTEIQ_MODELS_PATH."""
    prior_weight: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Share of the prior in every score, 0 to 1; by default what the artifact was trained to use.

    0.5 is the robust choice for traffic that is unlike the training data.
    """


class Prediction(NamedTuple):
    """What was predicted for a request, and by which artifact: one value, so that a reload cannot mix two.

    `untrusted` is the share of the score that is left to the prior: the prompt is unlike the training data.
    """

    request: RoutingRequest | None
    loaded: Loaded | None
    vector: Vector | None
    untrusted: float


NOTHING = Prediction(None, None, None, 0.0)


class LearnedStrategy(RoutingStrategy):
    """Predicts each model's quality with an `Estimator` from an artifact.

    A subclass names the kinds of estimators that it takes. Without any artifact it scores like `prior`, and says
    so: a gateway that starts before its first training is still useful.
    """

    name: ClassVar[str]
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="quality", needs_embedding=True)
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {}

    class Options(LearnedOptions):
        """Options of a learned strategy."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._loaded: Loaded | None = None
        self._why_not = "not loaded"
        self._qualities: dict[str, float] = {}
        self._last = NOTHING

    # -- loading ---------------------------------------------------------------------------------------------

    def load(self, context: LoadContext) -> None:
        """Open and verify the artifact, restore the estimator, warm it up.

        Raises:
            ConfigError: an artifact that the options name cannot be used. One that is only found in the store
                and cannot be used leaves the prior in charge: availability fails open, and the log says why.
        """
        self._qualities = {d.id: quality(d.facts, d.model) for d in context.deployments}
        folder: Path | None = None
        try:
            folder = self._folder(context)
            if folder is None:
                self._why_not = f"no trained artifact in {context.models_path}"
                return
            self._loaded, self._why_not = self._open(folder, context), ""
        except (ArtifactError, ValueError, OSError) as error:
            if self.options.artifact is not None:
                raise ConfigError([self._problem(folder, error)]) from error
            self._why_not = str(error)
            extra = {"strategy": self.name, "artifact": str(folder), "error": str(error)}
            _log.error("artifact refused, scoring with the prior", extra=extra)

    def _folder(self, context: LoadContext) -> Path | None:
        if self.options.artifact is not None:
            named = Path(self.options.artifact)
            return named if named.is_absolute() else Path(context.models_path) / named
        if not context.models_path:
            return None
        store = ArtifactStore(Path(context.models_path))
        for kind in (self.name, *self.estimators):
            found = store.active(kind)
            if found is not None:
                return found
        return None

    def _open(self, folder: Path, context: LoadContext) -> Loaded:
        artifact = open_artifact(settled(folder, context), verifier=context.verifier)
        opener = context.open_features
        estimator, features = restored(artifact, self.name, self.estimators, opener)
        twin = restored_twin(artifact, self.name, self.estimators)
        weight = self.options.prior_weight
        if weight is None:
            weight = float(artifact.manifest.settings.get("prior_weight", 0.0))
        return Loaded(
            artifact,
            estimator,
            features,
            prior_weight=weight,
            deployments=context.deployments,
            twin=twin,
        )

    def reload(self, context: LoadContext) -> bool:
        """Take the artifact that is active now, if it is another one.

        Raises:
            ConfigError: it cannot be used; the one that is served stays.
        """
        folder: Path | None = None
        now = self._loaded
        try:
            folder = self._folder(context)
            if folder is None:
                return False
            loaded = self._open(folder, context)
        except (ArtifactError, ValueError, OSError) as error:
            raise ConfigError([self._problem(folder, error)]) from error
        if now is not None and now.artifact.manifest.version == loaded.artifact.manifest.version:
            return False
        if now is not None and now.features.off_loop:
            now.features.close()  # its threads and its session; static features hold nothing
        self._loaded = loaded
        self._why_not = ""
        return True

    def _problem(self, folder: Path | None, error: Exception) -> Problem:
        return Problem(
            key="routeiq.strategy",
            message=f"{self.name!r} cannot use the artifact {folder or 'that is active'}: {error}",
            fix="Train one with `routeiq models train`, or check it with `routeiq models verify`.",
        )

    def close(self) -> None:
        """Let go of the artifact; its map is unmapped when the last array is gone."""
        if self._loaded is not None:
            self._loaded.features.close()
        self._loaded = None
        self._last = NOTHING

    # -- scoring ---------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded | None:
        """What is served, `None` while the prior stands in."""
        return self._loaded

    @property
    def prepares(self) -> bool:
        """Whether the features take so long that they are computed before `score`, off the event loop."""
        return self._loaded is not None and self._loaded.features.off_loop

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        """Compute slow features ahead; `score` finds them in the features' cache."""
        if self._loaded is not None:
            await self._loaded.features.warm(request)

    def predict(self, request: RoutingRequest) -> Vector | None:
        """Predicted quality per model of the artifact; `None` without one. Cached for the request at hand."""
        return self._predicted(request).vector

    def _predicted(self, request: RoutingRequest) -> Prediction:
        last = self._last
        if last.request is request:  # `explain` and others follow `score` on the same request
            return last
        loaded, vector, untrusted = self._loaded, None, 0.0
        if loaded is not None:
            estimator = loaded.estimator
            features: Vector | None = loaded.features.one(request)
            if features is None and loaded.twin is not None:
                estimator, static = loaded.twin
                features = static.one(request)
            if features is not None:
                rows, trust = estimator.predict_with_trust(features[None, :])
                vector = rows[0]
                if trust is not None:
                    untrusted = 1.0 - float(trust[0])
        self._last = Prediction(request, loaded, vector, untrusted)
        return self._last

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Predicted quality of each candidate's answer."""
        _, loaded, vector, untrusted = self._predicted(request)
        if vector is None or loaded is None:
            return self._prior(request, candidates)
        known = vector.tolist()
        scores = []
        for candidate in candidates:
            place = loaded.place(candidate.deployment)
            scores.append(known[place] if type(place) is int else float(vector @ place))
        weight = max(loaded.prior_weight, untrusted)
        if weight > NEGLIGIBLE:
            prior = self._prior(request, candidates)
            scores = [s + weight * (p - s) for s, p in zip(scores, prior, strict=True)]
        return scores

    def _prior(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> list[float]:
        hard, known = difficulty(request), self._qualities
        return [
            prior_score(
                known.get(c.deployment.id) or quality(c.deployment.facts, c.deployment.model), hard
            )
            for c in candidates
        ]

    def explain(self, request: RoutingRequest) -> str:
        """Which artifact predicted, or why none did."""
        loaded = self._loaded
        if loaded is None:
            return f"prior, {self._why_not}"
        if self._last.request is request and self._last.vector is None:
            return "prior, the features were not ready in time"
        said = f"predicted by artifact {loaded.artifact.manifest.version[:12]}"
        if self._last.request is request and self._last.untrusted > SHOWN:
            said += f", {self._last.untrusted:.0%} prior as the prompt is unlike its training data"
        return said

    def certified_margin(
        self, reference: str, epsilon: float, delta: float, cost_weight: float | None
    ) -> Margin | None:
        """The widest margin that the artifact's certificates allow, `None` without a fitting one."""
        loaded = self._loaded
        if loaded is None or loaded.prior_weight != loaded.artifact.manifest.settings.get(
            "prior_weight", 0.0
        ):
            return None  # certified for other scores than these
        fitting = [
            one
            for one in loaded.artifact.manifest.certificates
            if plain(str(one.get("reference"))) == plain(reference)
            and covers(one.get("cost_weights", ()), cost_weight)
            and float(one["epsilon"]) <= epsilon + CERTIFIED
            and float(one["delta"]) <= delta + CERTIFIED
        ]
        if not fitting:
            return None
        best = max(fitting, key=lambda one: float(one["tau"]))
        return Margin(tau=float(best["tau"]), deployments=loaded.named(best["models"]))

    def expected_output_tokens(self) -> Mapping[str, float]:
        """Mean lengths of answers in the training data."""
        loaded = self._loaded
        return {} if loaded is None else loaded.expected_output_tokens()

    def report(self) -> JsonObject:
        """The artifact that is served, or why none is."""
        loaded = self._loaded
        if loaded is None:
            return {"artifact": None, "reason": self._why_not}
        manifest = loaded.artifact.manifest
        return {
            "artifact": manifest.version,
            "kind": manifest.strategy,
            "created": manifest.created,
            "features": manifest.features,
            "models": list(manifest.models),
            "prior_weight": loaded.prior_weight,
            "metrics": dict(manifest.metrics),
        }


def check_usable(artifact: Artifact, open_features: Opener | None = None) -> None:
    """Refuse an artifact that no strategy of this version can serve.

    Raises:
        MismatchedArtifact: it cannot be served.
    """
    name = artifact.manifest.strategy
    try:
        strategy = strategy_class(name)
    except ConfigError as error:
        raise MismatchedArtifact(f"no strategy is called {name!r} here.") from error
    if not issubclass(strategy, LearnedStrategy):
        raise MismatchedArtifact(f"strategy {name!r} takes no artifacts.")
    restored(artifact, name, strategy.estimators, open_features)
    restored_twin(artifact, name, strategy.estimators)


def covers(tested: Sequence[float | str], cost_weight: float | None) -> bool:
    """Whether a certificate holds under a cost weight.

    One that was tested for the best predicted choice (weight 0) and for the cheapest admissible one holds for any
    weight, `None` included; one for single weights holds for these.
    """
    if "cheapest" in tested and 0.0 in tested:
        return True
    weights = [float(one) for one in tested if one != "cheapest"]
    return cost_weight is not None and any(
        abs(cost_weight - one) <= CERTIFIED * max(1.0, abs(one)) for one in weights
    )
