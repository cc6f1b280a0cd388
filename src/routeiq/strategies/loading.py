"""From an artifact on disk to something that predicts for this gateway's deployments: checked and tried out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.artifacts.artifact import Artifact
from routeiq.artifacts.errors import (
    ArtifactError,
    InvalidArtifact,
    MismatchedArtifact,
    SignatureRefused,
)
from routeiq.artifacts.store import VERSIONS, ArtifactStore
from routeiq.embeddings.features import Features, load_features
from routeiq.embeddings.static import EmbeddingError
from routeiq.types import Deployment, LoadContext

from .columns import blended_price, by_name, column, tier_weights
from .estimator import Arrays, Estimator

_log = logging.getLogger(__name__)
Opener = Callable[[str], Features]
Vector = npt.NDArray[np.float32]
KEPT_VERSIONS = 5
"""Versions that stay in the store beside those that are active or were before."""


class Loaded:
    """An artifact ready to predict for certain deployments. Immutable, so that a swap is one assignment."""

    __slots__ = (
        "_columns",
        "_groups",
        "_places",
        "_prices",
        "artifact",
        "estimator",
        "features",
        "prior_weight",
        "twin",
    )

    def __init__(
        self,
        artifact: Artifact,
        estimator: Estimator,
        features: Features,
        *,
        prior_weight: float,
        deployments: Sequence[Deployment],
        twin: tuple[Estimator, Features] | None = None,
    ) -> None:
        self.artifact = artifact
        self.estimator = estimator
        self.features = features
        self.prior_weight = prior_weight
        self.twin = twin
        self._columns = by_name(estimator.models)
        known: dict[int, float | None] = {}
        for deployment in deployments:
            found = column(deployment, self._columns)
            if found is not None:
                known[found] = blended_price(deployment.facts)
        self._prices = [known.get(index) for index in range(len(estimator.models))]
        self._places = {d.id: self._find(d) for d in deployments}
        columns = ((d.group, column(d, self._columns)) for d in deployments)
        self._groups = {group: place for group, place in columns if place is not None}

    def place(self, deployment: Deployment) -> int | Vector:
        """The column of a deployment, or the weights over all columns for one whose model is new."""
        found = self._places.get(deployment.id)
        return self._find(deployment) if found is None else found

    def expected_output_tokens(self) -> dict[str, float]:
        """Mean length of an answer by model group, as counted in the training data."""
        counted = self.artifact.manifest.settings.get("output_tokens", {})
        found = {}
        for group, place in self._groups.items():
            tokens = counted.get(self.estimator.models[place])
            if tokens is not None:
                found[group] = float(tokens)
        return found

    def named(self, models: Iterable[str]) -> frozenset[str]:
        """The ids of the deployments of these models."""
        wanted = {self._columns[name] for name in models if name in self._columns}
        return frozenset(
            id for id, place in self._places.items() if type(place) is int and place in wanted
        )

    def _find(self, deployment: Deployment) -> int | Vector:
        found = column(deployment, self._columns)
        if found is not None:
            return found
        weights = tier_weights(blended_price(deployment.facts), self._prices)
        return np.array(weights, dtype=np.float32)


def settled(folder: Path, context: LoadContext) -> Path:
    """Where the artifact can be mapped safely: its copy in the store, whose versions nobody overwrites.

    A mapped file that is written to in place would change what is served, or kill the process. Where the store
    cannot be written (a read-only mount), nobody writes to the artifact either, and it is mapped where it is.

    Raises:
        InvalidArtifact: it is damaged.
        SignatureRefused: the policy does not accept it.
    """
    store = ArtifactStore(Path(context.models_path))
    known = bool(context.models_path) and store.path.is_dir()
    if not known or folder.parent == store.path / VERSIONS:
        return folder
    try:
        version = store.stage(folder, verifier=context.verifier)
        store.prune(keep=KEPT_VERSIONS)
    except (InvalidArtifact, SignatureRefused):
        raise
    except (ArtifactError, OSError) as error:
        _log.info("artifact mapped where it is", extra={"folder": str(folder), "error": str(error)})
        return folder
    return store.folder(version)


def restored(
    artifact: Artifact,
    strategy: str,
    kinds: Mapping[str, type[Estimator]],
    open_features: Opener | None = None,
) -> tuple[Estimator, Features]:
    """The estimator of an artifact and the features it takes, tried out once.

    Raises:
        MismatchedArtifact: it is another strategy's, another version's, or does not work.
    """
    manifest = artifact.manifest
    settings = manifest.settings
    return _restored(
        artifact,
        strategy,
        kinds,
        features=str(settings.get("features", "static")),
        fingerprint=manifest.features,
        arrays=artifact.arrays,
        settings=settings.get("estimator", {}),
        open_features=open_features,
    )


TWIN = "static/"
"""Prefix of the arrays of an artifact's twin: the same estimator on static features."""


def restored_twin(
    artifact: Artifact, strategy: str, kinds: Mapping[str, type[Estimator]]
) -> tuple[Estimator, Features] | None:
    """What stands in while slow features are not ready in time; `None` where the artifact has no twin.

    Raises:
        MismatchedArtifact: it has one that cannot be used.
    """
    twin = artifact.manifest.settings.get("twin")
    if twin is None:
        return None
    arrays = {
        name.removeprefix(TWIN): array
        for name, array in artifact.arrays.items()
        if name.startswith(TWIN)
    }
    return _restored(
        artifact,
        strategy,
        kinds,
        features="static",
        fingerprint=str(twin["features"]),
        arrays=arrays,
        settings=twin["estimator"],
    )


def _restored(
    artifact: Artifact,
    strategy: str,
    kinds: Mapping[str, type[Estimator]],
    *,
    features: str,
    fingerprint: str,
    arrays: Arrays,
    settings: Mapping[str, Any],
    open_features: Opener | None = None,
) -> tuple[Estimator, Features]:
    manifest, folder = artifact.manifest, artifact.folder
    kind = kinds.get(manifest.strategy)
    if kind is None:
        raise MismatchedArtifact(
            f"{folder} is for strategy {manifest.strategy!r}; {strategy!r} takes "
            f"{', '.join(sorted(kinds))}."
        )
    try:
        known = (open_features or load_features)(features)
    except EmbeddingError as error:
        raise MismatchedArtifact(f"{folder} needs features {features!r}: {error}") from error
    if known.fingerprint != fingerprint:
        raise MismatchedArtifact(
            f"{folder} was trained on features {fingerprint!r}, this version computes "
            f"{known.fingerprint!r}: train it again."
        )
    try:
        estimator = kind.restore(manifest.models, arrays, settings)
        probe = estimator.predict(np.zeros((1, known.dimension), dtype=np.float32))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise MismatchedArtifact(f"{folder} does not fit together: {error}.") from error
    if probe.shape != (1, len(manifest.models)) or not np.isfinite(probe).all():
        raise MismatchedArtifact(f"{folder} predicts nonsense: train it again.")
    return estimator, known
