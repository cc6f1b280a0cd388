from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from routeiq.artifacts.artifact import open_artifact
from routeiq.artifacts.errors import InvalidArtifact, SignatureRefused, SourceChanged, SourceError
from routeiq.artifacts.manifest import Manifest
from routeiq.artifacts.sources import source_from, unpack
from routeiq.exceptions import ConfigError
from tests.unit.artifacts.conftest import Make


def packed(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    return archive


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/", "{}/manifest.json", "tar"])
def test_an_artifact_comes_from_a_folder_or_an_archive(
    make: Make, tmp_path: Path, form: str
) -> None:
    made = make(tmp_path / "a b", files={"card.md": b"c", "plots/x.svg": b""})
    uri = form.format(tmp_path / "a b")
    if form == "tar":
        uri = str(packed(tmp_path / "a b", tmp_path / "a.tar"))
    elif form.startswith("file"):
        uri = uri.replace(" ", "%20")
    source = source_from(uri)
    change = source.poll(None)
    assert change is not None
    source.fetch(change, tmp_path / "into")
    assert open_artifact(tmp_path / "into").manifest == made
    assert source.poll(change.mark) is None
    left = sorted(str(p.relative_to(tmp_path / "into")) for p in (tmp_path / "into").rglob("*"))
    assert left == ["card.md", "manifest.json", "plots", "plots/x.svg", "weights.safetensors"]


def test_files_that_are_there_already_are_not_fetched_again(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    source = source_from(str(tmp_path / "a"))
    change = source.poll(None)
    assert change is not None
    source.fetch(change, tmp_path / "into")
    inode = (tmp_path / "into" / "weights.safetensors").stat().st_ino
    (tmp_path / "into" / "card.md").write_text("damaged")
    source.fetch(change, tmp_path / "into")
    assert (tmp_path / "into" / "weights.safetensors").stat().st_ino == inode
    open_artifact(tmp_path / "into")


def test_the_manifest_is_judged_before_anything_else_is_fetched(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    source = source_from(str(tmp_path / "a"))
    change = source.poll(None)
    assert change is not None

    def refuse(_: bytes) -> Manifest:
        raise SignatureRefused("no")

    with pytest.raises(SignatureRefused):
        source.fetch(change, tmp_path / "into", check=refuse)
    assert not (tmp_path / "into").exists()


def test_a_publication_that_is_under_way_is_left_for_later(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", seed=1)
    source = source_from(str(tmp_path / "a"))
    change = source.poll(None)
    assert change is not None
    weights = (tmp_path / "b" / "weights.safetensors").read_bytes()
    (tmp_path / "a" / "weights.safetensors").write_bytes(weights)
    with pytest.raises(SourceChanged, match=r"weights\.safetensors is not the file"):
        source.fetch(change, tmp_path / "into")
    (tmp_path / "a" / "weights.safetensors").write_bytes(weights[:-1])
    with pytest.raises(SourceChanged, match="were announced"):
        source.fetch(change, tmp_path / "into")
    (tmp_path / "a" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(SourceChanged, match="replaced"):
        source.fetch(change, tmp_path / "into")


def test_sizes_are_bounded(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a")
    archive = packed(tmp_path / "a", tmp_path / "a.tar")
    for uri in (tmp_path / "a", archive):
        source = source_from(str(uri), max_bytes=100)
        change = source.poll(None)
        assert change is not None
        with pytest.raises(InvalidArtifact, match="are allowed"):
            source.fetch(change, tmp_path / "into")

    class Full:
        f_bavail = 0
        f_frsize = 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    source = source_from(str(tmp_path / "a"))
    change = source.poll(None)
    assert change is not None
    with pytest.raises(SourceError, match="is full"):
        source.fetch(change, tmp_path / "into")


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 1, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf() + b"x".ljust(512, b"\0") * (size > 0)


HOSTILE = {
    "parent": (member("../evil"), "refused"),
    "absolute": (member("/evil"), "refused"),
    "inner parent": (member("a/../../evil"), "refused"),
    "hidden": (member(".part"), "refused"),
    "symbolic link": (member("a", tarfile.SYMTYPE, 0, "/etc/passwd"), "refused"),
    "hard link": (member("a", tarfile.LNKTYPE, 0, "/etc/passwd"), "refused"),
    "device": (member("a", tarfile.CHRTYPE, 0), "refused"),
    "fifo": (member("a", tarfile.FIFOTYPE, 0), "refused"),
    "twice": (member("a") + member("a"), "twice"),
    "file and folder": (member("a") + member("a/b"), "twice"),
    "too many": (b"".join(member(f"f{n}") for n in range(70)), "too many"),
    "too large": (member("a", size=1 << 30), "too many files or bytes"),
    "cut": (member("a", size=600)[:700], "cannot be read"),
    "not a tar": (b"x" * 1024, "cannot be read"),
    "no manifest": (member("a"), "no manifest"),
    "empty": (b"", "cannot be read|no manifest"),
}


@pytest.mark.parametrize(("raw", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, raw: bytes, says: str
) -> None:
    (tmp_path / "a.tar").write_bytes(raw if len(raw) % 512 else raw + bytes(1024))
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    with pytest.raises(InvalidArtifact, match=says):
        unpack(tmp_path / "a.tar", into, max_bytes=1 << 20)
    outside = {p for p in tmp_path.rglob("*") if into not in p.parents}
    assert outside == {tmp_path / "a.tar", tmp_path / "deep", into}
    assert not any(p.is_symlink() for p in into.rglob("*"))


def test_a_compressed_archive_is_refused(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "a", arcname=".")
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    with pytest.raises(InvalidArtifact, match="cannot be read"):
        unpack(tmp_path / "a.tar", tmp_path / "into", max_bytes=1 << 20)


def test_there_is_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"manifest\.json cannot be read: No such file"):
        source_from(str(tmp_path)).poll(None)


@pytest.mark.parametrize(
    "uri", ["", "ftp://x/y", "s3://", "gs:///x", "file://host/x", "https://x/y"]
)
def test_an_address_that_is_none_is_named(uri: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        source_from(uri)


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("s3://b/p", "boto3", r"router\[s3\]"), ("gs://b/p", "google.auth", r"router\[gcs\]")],
)
def test_without_the_package_the_extra_is_named(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=extra):
        source_from(uri)
