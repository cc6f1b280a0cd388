"""What learned strategies need from the configuration: verification, remote artifacts, the decision log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routeiq.artifacts.artifact import Artifact
from routeiq.artifacts.signature import Verifier, verifier_from
from routeiq.artifacts.sources import source_from
from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
from routeiq.config.model import Config
from routeiq.config.section import Learning
from routeiq.ports import Clock
from routeiq.telemetry.decision_file import DecisionFile
from routeiq.types import RoutingRequest

if TYPE_CHECKING:
    from routeiq.embeddings.features import Features


def verifier_of(config: Config) -> Verifier:
    """How signatures of artifacts are checked.

    Raises:
        ConfigError: a key cannot be used, or a signature is required and no key is set.
    """
    settings = config.settings
    return verifier_from(
        public_key=settings.artifact_public_key,
        hmac_key=settings.artifact_hmac_key,
        required=settings.artifact_require_signature,
    )


def syncer_of(config: Config, clock: Clock) -> Syncer | None:
    """What fetches artifacts from elsewhere, `None` where nothing is configured.

    Raises:
        ConfigError: the address cannot be used.
    """
    settings = config.settings
    if settings.model_s3_uri is None:
        return None
    return Syncer(
        ArtifactStore(Path(settings.models_path)),
        # The clients of S3 and GCS have their own variables for credentials and addresses.
        source_from(settings.model_s3_uri, environ=os.environ),
        verifier=verifier_of(config),
        accept=Usable(settings.embedder_path),
        interval_s=settings.model_sync_interval,
        clock=clock,
    )


class Usable:
    """Refuses what no strategy of this version could serve, before it is promoted."""

    def __init__(self, embedder_path: str | None) -> None:
        self._open = FeatureOpener(embedder_path)

    def __call__(self, artifact: Artifact) -> None:
        """Try the artifact out.

        Raises:
            MismatchedArtifact: another version's features, an unknown strategy, arrays that do not fit.
        """
        from routeiq.strategies.learned import check_usable

        check_usable(artifact, self._open)


def decision_file_of(config: Config, clock: Clock) -> DecisionFile | None:
    """The decision log on disk, `None` where none is configured."""
    learning = config.routeiq.learning
    if learning.decision_log is None:
        return None
    return DecisionFile(
        Path(learning.decision_log),
        started=clock.wall(),
        max_bytes=learning.log_max_bytes,
        keep=learning.log_files,
        text=learning.log_text,
        encode=LazyEncoder() if learning.log_features else None,
    )


class DecisionFiles:
    """The decision log on disk of one worker: a reload that does not change its settings goes on with the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._learning: Learning | None = None
        self._file: DecisionFile | None = None

    def of(self, config: Config) -> DecisionFile | None:
        """What this configuration writes to."""
        learning = config.routeiq.learning
        if self._learning is None or _log_of(learning) != _log_of(self._learning):
            self._file = decision_file_of(config, self._clock)
        self._learning = learning
        return self._file


def _log_of(learning: Learning) -> dict[str, Any]:
    return learning.model_dump(
        include={"decision_log", "log_text", "log_features", "log_max_bytes", "log_files"}
    )


class LazyEncoder:
    """Features for the decision log, in the writer's thread: instances of their own, loaded when first needed.

    NumPy and the token table are imported only then, so that a gateway without a decision log never pays.
    """

    def __init__(self) -> None:
        self._features: Features | None = None

    def __call__(self, request: RoutingRequest) -> tuple[str, bytes]:
        """The fingerprint of the features, and their values as float16, little-endian."""
        if self._features is None:
            from routeiq.embeddings.features import load_features

            self._features = load_features(cache=0)
        vector: Any = self._features.many([request])[0]
        return self._features.fingerprint, vector.astype("<f2").tobytes()


class FeatureOpener:
    """Opens prompt features by name; MiniLM from a folder, or from where Hugging Face's libraries keep models.

    NumPy is imported when the first artifact is opened, ONNX Runtime when one needs it.
    """

    def __init__(self, embedder_path: str | None) -> None:
        self._path = None if embedder_path is None else Path(embedder_path)

    def __call__(self, name: str) -> Features:
        """The features.

        Raises:
            EmbeddingError: no such features, or the model is nowhere.
        """
        from routeiq.embeddings.features import open_features

        return open_features(name, self._path, os.environ)
