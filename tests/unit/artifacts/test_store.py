from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from routeiq.artifacts.artifact import Artifact, open_artifact
from routeiq.artifacts.errors import (
    ArtifactError,
    InvalidArtifact,
    MismatchedArtifact,
    SignatureRefused,
    StoreError,
)
from routeiq.artifacts.signature import HmacKey, Verifier
from routeiq.artifacts.store import ArtifactStore
from tests.unit.artifacts.conftest import Make

KEY = HmacKey(bytes(32))
TRUSTING = Verifier(keys=(KEY,), required=True)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


def staged(store: ArtifactStore, make: Make, tmp_path: Path, *seeds: int) -> list[str]:
    versions = []
    for seed in seeds:
        make(tmp_path / f"made{seed}", seed=seed)
        versions.append(store.stage(tmp_path / f"made{seed}"))
    for at, version in enumerate(versions, 1):
        os.utime(store.folder(version), (at, at))  # the order of use, without waiting
    return versions


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_reading_an_empty_store_makes_nothing(store: ArtifactStore) -> None:
    assert store.active("knn") is None
    assert store.listing() == []
    assert store.stamp("knn") == ((0, 0, 0), (0, 0, 0))
    assert store.prune(keep=0) == []
    with pytest.raises(StoreError, match="not in the store"):
        store.promote("knn", "a" * 32)
    with pytest.raises(StoreError, match="nothing is promoted"):
        store.rollback("knn")
    assert not store.path.exists()


def test_stage_promote_rollback(store: ArtifactStore, make: Make, tmp_path: Path) -> None:
    one, two = staged(store, make, tmp_path, 1, 2)
    assert store.active("knn") is None, "staging activates nothing"
    store.promote("knn", one)
    assert store.active("knn") == store.folder(one)
    assert store.promote("knn", two[:8]).previous == (one,)
    assert ArtifactStore(store.path).active("knn") == store.folder(two), "it is on the disk"
    assert store.rollback("knn").withdrawn == (two,)
    assert store.active("knn") == store.folder(one)
    with pytest.raises(StoreError, match="no version before"):
        store.rollback("knn")
    assert store.active("knn") == store.folder(one)
    assert store.active("mlp") is None


def test_staging_copies_what_was_checked_and_nothing_else(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    made = make(tmp_path / "a")
    (tmp_path / "a" / "stray").write_text("x")
    version = store.stage(tmp_path / "a")
    assert version == made.version
    assert names(store.folder(version)) == ["card.md", "manifest.json", "weights.safetensors"]
    assert open_artifact(store.folder(version)).manifest == made
    assert not os.access(store.folder(version) / "card.md", os.W_OK) or os.getuid() == 0
    assert (store.folder(version) / "card.md").stat().st_mode & 0o222 == 0


def test_staging_twice_changes_nothing_but_a_new_signature(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "plain")
    make(tmp_path / "signed", signer=KEY)
    version = store.stage(tmp_path / "plain")
    inode = (store.folder(version) / "weights.safetensors").stat().st_ino
    with pytest.raises(SignatureRefused):
        store.promote("knn", version, verifier=TRUSTING)
    assert store.stage(tmp_path / "signed", verifier=TRUSTING) == version
    store.promote("knn", version, verifier=TRUSTING)
    assert (store.folder(version) / "weights.safetensors").stat().st_ino == inode


def test_staging_again_heals_a_damaged_version(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    (version,) = staged(store, make, tmp_path, 1)
    weights = store.folder(version) / "weights.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"rotten")
    with pytest.raises(InvalidArtifact):
        store.promote("knn", version)
    assert store.stage(tmp_path / "made1") == version
    store.promote("knn", version)
    assert names(store.path / "versions") == [version]


def test_what_is_refused_is_not_staged(store: ArtifactStore, make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")

    def accept(artifact: Artifact) -> None:
        raise MismatchedArtifact(f"made for features {artifact.manifest.features}")

    with pytest.raises(SignatureRefused):
        store.stage(tmp_path / "a", verifier=TRUSTING)
    with pytest.raises(MismatchedArtifact, match="static:1"):
        store.stage(tmp_path / "a", accept=accept)
    (tmp_path / "a" / "card.md").write_text("x")
    with pytest.raises(InvalidArtifact):
        store.stage(tmp_path / "a")
    assert store.listing() == []


def test_promotion_refuses_what_is_not_there_or_of_another_strategy(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    versions = staged(store, make, tmp_path, *range(17))
    twice = next(v[0] for v in versions if sum(o[0] == v[0] for o in versions) > 1)
    for name, says in (
        ("f" * 32, "not in the store"),
        ("", "not in the store"),
        ("../x", "not in the store"),
        (twice, "could be any of"),
    ):
        with pytest.raises(StoreError, match=says):
            store.promote("knn", name)
    with pytest.raises(StoreError, match="'knn', not of 'mlp'"):
        store.promote("mlp", versions[0])
    with pytest.raises(StoreError, match="not a version"):
        store.folder("../x")


def test_a_plain_folder_counts_until_something_is_promoted(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    make(store.path / "knn", seed=9)
    assert store.active("knn") == store.path / "knn"
    assert store.active("../models/knn") is None
    (version,) = staged(store, make, tmp_path, 1)
    store.promote("knn", version)
    assert store.active("knn") == store.folder(version)
    assert store.rollback("knn").version == ""
    assert store.active("knn") == store.path / "knn"


def test_the_version_before_counts_if_the_active_one_is_gone(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    one, two = staged(store, make, tmp_path, 1, 2)
    store.promote("knn", one)
    store.promote("knn", two)
    os.rename(store.folder(two), tmp_path / "lost")
    assert store.active("knn") == store.folder(one)
    os.rename(store.folder(one), tmp_path / "lost as well")
    with pytest.raises(StoreError, match="not in the store"):
        store.rollback("knn")


def test_the_stamp_changes_with_every_activation(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    one, two = staged(store, make, tmp_path, 1, 2)
    stamps = [store.stamp("knn")]
    store.promote("knn", one)
    stamps.append(store.stamp("knn"))
    store.promote("knn", one)
    assert store.stamp("knn") == stamps[-1], "nothing changed"
    store.promote("knn", two)
    stamps.append(store.stamp("knn"))
    store.rollback("knn")
    stamps.append(store.stamp("knn"))
    make(store.path / "knn", seed=3)
    stamps.append(store.stamp("knn"))
    make(store.path / "knn", seed=4)
    stamps.append(store.stamp("knn"))
    assert len(set(stamps)) == len(stamps)


def test_the_listing_says_what_each_version_is(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    one, two, three, four = staged(store, make, tmp_path, 1, 2, 3, 4)
    for version in (one, two, three):
        store.promote("knn", version)
    store.rollback("knn")
    (store.folder(four) / "manifest.json").unlink()
    found = {line.version: line for line in store.listing()}
    assert {v: found[v].state for v in found} == {
        one: "previous",
        two: "active",
        three: "withdrawn",
        four: "damaged",
    }
    assert found[two].strategy == "knn"
    assert found[two].size == sum(
        p.stat().st_size for p in store.folder(two).iterdir() if p.name != "manifest.json"
    )
    assert "manifest.json" in found[four].problem


def test_pruning_keeps_active_previous_and_the_last_used(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    one, two, three, four, five = staged(store, make, tmp_path, 1, 2, 3, 4, 5)
    store.promote("knn", one)
    store.promote("knn", two)
    assert store.prune(keep=1) == [four, three]
    assert sorted(line.version for line in store.listing()) == sorted([one, two, five])
    assert store.prune(keep=0) == [five]
    assert store.prune(keep=0) == []
    assert names(store.path / "versions") == sorted([one, two])
    with pytest.raises(ValueError, match="negative"):
        store.prune(keep=-1)


def test_what_a_dead_writer_left_is_swept_up(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    staged(store, make, tmp_path, 1)
    (store.path / "versions" / ".abc.tmp").mkdir()
    (store.path / "versions" / ".abc.tmp" / "weights.safetensors").write_text("half")
    (store.path / ".active.json.x").write_text("half")
    assert len(store.listing()) == 1
    store.prune(keep=9)
    assert len(names(store.path / "versions")) == 1
    assert names(store.path) == [".lock", "versions"]


def test_a_full_disk_changes_nothing(
    store: ArtifactStore, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = staged(store, make, tmp_path, 1, 2)
    store.promote("knn", one)
    make(tmp_path / "c", seed=3)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="disk is full"):
        store.stage(tmp_path / "c")
    with pytest.raises(StoreError, match="No space left"):
        store.promote("knn", two)
    assert store.active("knn") == store.folder(one)
    assert sorted(names(store.path / "versions")) == sorted([one, two])


def test_a_damaged_activation_is_named_and_not_overwritten(
    store: ArtifactStore, make: Make, tmp_path: Path
) -> None:
    (one,) = staged(store, make, tmp_path, 1)
    (store.path / "active.json").write_text("{")
    with pytest.raises(StoreError, match=r"active\.json cannot be used"):
        store.active("knn")
    with pytest.raises(StoreError, match=r"active\.json cannot be used"):
        store.promote("knn", one)
    assert (store.path / "active.json").read_text() == "{"
    (store.path / "active.json").unlink()
    (store.path / "active.json").mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        store.active("knn")


def test_a_store_that_cannot_be_written_says_so(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        ArtifactStore(tmp_path / "file").stage(tmp_path / "a")
