"""Artifacts from S3 and GCS over real sockets with their real clients, and connections that are cut."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.artifacts.manifest import Manifest
from routeiq.artifacts.signature import HmacKey, Verifier
from routeiq.artifacts.sources import source_from
from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
from tests.support.cloud import Cloud

KEY = HmacKey(bytes(32))
TRUSTING = Verifier(keys=(KEY,), required=True)
BIG = 600_000  # float32 values: 2.4 MB of weights, several chunks


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    made.close()


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def source(cloud: Cloud, scheme: str, path: str = "team/knn") -> Any:
    environ = {"AWS_ENDPOINT_URL": cloud.url, "STORAGE_EMULATOR_HOST": cloud.url}
    return source_from(f"{scheme}://bucket/{path}", environ=environ)


def made(folder: Path, seed: int = 0, size: int = BIG) -> Manifest:
    draft = Draft(
        strategy="knn",
        features="static:1",
        models=("small", "large"),
        arrays={"w": np.random.default_rng(seed).random(size, np.float32)},
        files={"card.md": b"# Card\n", "plots/a.svg": b"<svg/>"},
    )
    return write_artifact(folder, draft, signer=KEY)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


def weights(cloud: Cloud) -> list[dict[str, str]]:
    return [r for r in cloud.requests if r["method"] == "GET" and "weights" in r["key"]]


def test_a_bucket_is_followed(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    cloud.publish(tmp_path / "a", "team/knn")
    syncer = Syncer(store, source(cloud, scheme), verifier=TRUSTING)
    assert syncer.check(), syncer.status()
    assert store.active("knn") == store.folder(first.version)
    before = len(cloud.requests)
    assert not syncer.check()
    assert len(cloud.requests) == before + 1, "one conditional request says that nothing is new"
    last = cloud.requests[-1]
    assert last.get("if-none-match") or last.get("ifGenerationNotMatch")
    second = made(tmp_path / "b", seed=1)
    cloud.publish(tmp_path / "b", "team/knn")
    assert syncer.check()
    assert store.active("knn") == store.folder(second.version)
    found = open_artifact(store.folder(second.version), verifier=TRUSTING)
    np.testing.assert_array_equal(
        found.arrays["w"], np.random.default_rng(1).random(BIG, np.float32)
    )


def test_a_cut_download_is_resumed(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    cloud.publish(tmp_path / "a", "team/knn")
    cloud.cuts = [1_100_000, 600_000]
    syncer = Syncer(store, source(cloud, scheme), verifier=TRUSTING)
    assert syncer.check(), syncer.status()
    asked = weights(cloud)
    starts = [int(r.get("range", "bytes=0-")[6:-1]) for r in asked]
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2]
    assert all(r.get("if-match") or r.get("ifGenerationMatch") for r in asked[1:])
    assert store.active("knn") == store.folder(first.version)


def test_a_server_that_ignores_ranges_costs_time_but_no_bytes(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    cloud.publish(tmp_path / "a", "team/knn")
    cloud.cuts, cloud.ranges = [1_100_000], False
    syncer = Syncer(store, source(cloud, scheme), verifier=TRUSTING)
    assert syncer.check(), syncer.status()
    assert store.active("knn") == store.folder(first.version)


def test_weights_replaced_while_they_are_fetched_are_not_mixed(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    made(tmp_path / "a")
    second = made(tmp_path / "b", seed=1)
    cloud.publish(tmp_path / "a", "team/knn")
    cloud.cuts = [1_100_000]
    cloud.after_cut = lambda: cloud.publish(tmp_path / "b", "team/knn")
    syncer = Syncer(store, source(cloud, scheme), verifier=TRUSTING)
    assert not syncer.check()
    assert "SourceChanged" in syncer.status()["last_error"]
    assert store.active("knn") is None
    assert syncer.check(), syncer.status()
    assert store.active("knn") == store.folder(second.version)


def test_an_archive_is_followed(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a", arcname=".")
    cloud.put("team/knn.tar", (tmp_path / "a.tar").read_bytes())
    cloud.cuts = [1_100_000]
    syncer = Syncer(store, source(cloud, scheme, "team/knn.tar"), verifier=TRUSTING)
    assert syncer.check(), syncer.status()
    assert store.active("knn") == store.folder(first.version)
    assert len([r for r in cloud.requests if "range" in r]) == 1
    assert not syncer.check()
    cloud.put("team/knn.tar", (tmp_path / "a.tar").read_bytes()[:1_000_000])
    assert not syncer.check()
    assert "archive cannot be read" in syncer.status()["last_error"]
    assert store.active("knn") == store.folder(first.version)


def test_tampered_bytes_keep_the_old_artifact(
    cloud: Cloud, scheme: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    cloud.publish(tmp_path / "a", "team/knn")
    syncer = Syncer(store, source(cloud, scheme), verifier=TRUSTING)
    assert syncer.check()
    made(tmp_path / "b", seed=1)
    cloud.publish(tmp_path / "b", "team/knn")
    data = bytearray(cloud.objects["team/knn/weights.safetensors"][0])
    data[len(data) // 2] ^= 1
    cloud.put("team/knn/weights.safetensors", bytes(data))
    assert not syncer.check()
    assert "weights.safetensors is not the file" in syncer.status()["last_error"]
    raw = cloud.objects["team/knn/manifest.json"][0]
    cloud.put("team/knn/manifest.json", raw.replace(b"static:1", b"static:2"))
    fetched = len(weights(cloud))
    assert not syncer.check()
    assert "manifest.json was changed" in syncer.status()["last_error"]
    assert len(weights(cloud)) == fetched, "nothing more is fetched for a manifest that is refused"
    assert store.active("knn") == store.folder(first.version)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (403, "lack the right"),
        (401, "not accepted|cannot be refreshed"),
        (404, "is not there"),
        (500, "500"),
    ],
)
def test_a_server_that_refuses_is_quoted(
    cloud: Cloud, scheme: str, store: ArtifactStore, status: int, says: str
) -> None:
    cloud.status = status
    syncer = Syncer(store, source(cloud, scheme))
    assert not syncer.check()
    assert re.search(says, syncer.status()["last_error"])
    assert f"{scheme}://bucket/team/knn: manifest.json" in syncer.status()["last_error"]


def test_a_server_that_is_down_is_an_error_not_a_crash(
    cloud: Cloud, scheme: str, store: ArtifactStore
) -> None:
    place = source(cloud, scheme)
    cloud.close()
    syncer = Syncer(store, place)
    assert not syncer.check()
    assert "SourceError" in syncer.status()["last_error"]
