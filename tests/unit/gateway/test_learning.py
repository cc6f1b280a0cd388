from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.artifacts.errors import MismatchedArtifact
from routeiq.config.model import Config
from routeiq.config.section import Learning, RouteIQSection
from routeiq.config.settings import Settings
from routeiq.embeddings.features import load_features
from routeiq.exceptions import ConfigError
from routeiq.gateway.learning import (
    DecisionFiles,
    LazyEncoder,
    Usable,
    decision_file_of,
    syncer_of,
    verifier_of,
)
from tests.support.clock import FakeClock
from tests.support.routing import request


def config(learning: dict[str, Any] | None = None, **settings: Any) -> Config:
    section = RouteIQSection(learning=Learning(**(learning or {})))
    return Config(settings=Settings(**settings), routeiq=section)


def test_without_keys_unsigned_artifacts_are_accepted() -> None:
    assert not verifier_of(config()).required
    assert verifier_of(config(artifact_hmac_key="ab" * 32)).required


def test_a_required_signature_without_a_key_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no key to check"):
        verifier_of(config(artifact_require_signature=True))


def test_artifacts_are_fetched_where_an_address_is_set(tmp_path: Path, clock: FakeClock) -> None:
    assert syncer_of(config(), clock) is None
    remote = (tmp_path / "remote").as_uri()
    syncer = syncer_of(config(model_s3_uri=remote, models_path=str(tmp_path / "local")), clock)
    assert syncer is not None
    assert syncer.status()["uri"]


def test_no_decision_log_without_a_folder(clock: FakeClock) -> None:
    assert decision_file_of(config(), clock) is None


@pytest.mark.parametrize("features", [True, False])
def test_the_decision_log_does_as_configured(
    tmp_path: Path, clock: FakeClock, features: bool
) -> None:
    learning = {"decision_log": str(tmp_path), "log_features": features, "log_text": True}
    file = decision_file_of(config(learning), clock)
    assert file is not None
    assert file.folder == tmp_path
    assert (file._encode is None) is not features
    assert list(tmp_path.iterdir()) == []  # opened with the first record


def test_features_are_loaded_when_first_needed_and_then_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, loads = load_features(), []
    encoder = LazyEncoder()

    def load(**options: Any) -> Any:
        loads.append(options)
        return known

    monkeypatch.setattr("routeiq.embeddings.features.load_features", load)
    for text in ("one", "two"):
        fingerprint, raw = encoder(request(text))
        vector = np.frombuffer(raw, dtype="<f2")
        np.testing.assert_allclose(vector, known.many([request(text)])[0], atol=2e-3)
        assert fingerprint == known.fingerprint
    assert loads == [{"cache": 0}]


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("nobody", "no strategy is called 'nobody'"),
        ("prior", "takes no artifacts"),
        ("knn", "was trained on features 'other'"),
    ],
)
def test_what_nobody_could_serve_is_refused_before_it_is_promoted(
    tmp_path: Path, strategy: str, says: str
) -> None:
    arrays = {"x": np.zeros(1, np.float32)}
    draft = Draft(strategy=strategy, features="other", models=("a",), arrays=arrays)
    write_artifact(tmp_path / "a", draft)
    with pytest.raises(MismatchedArtifact, match=says):
        Usable(None)(open_artifact(tmp_path / "a"))


def test_a_reload_goes_on_with_the_same_decision_log_until_its_settings_change(
    tmp_path: Path, clock: FakeClock
) -> None:
    files = DecisionFiles(clock)
    log = {"decision_log": str(tmp_path)}
    assert files.of(config()) is None
    first = files.of(config(log))
    assert first is not None
    assert files.of(config({**log, "poll_s": 9.0})) is first
    assert files.of(config({**log, "log_text": True})) is not first
    assert files.of(config()) is None
