from __future__ import annotations

import errno
import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routeiq.artifacts import artifact as module
from routeiq.artifacts.artifact import Draft, open_artifact, sign_artifact, write_artifact
from routeiq.artifacts.errors import ArtifactError, InvalidArtifact, SignatureRefused
from routeiq.artifacts.signature import HmacKey, Verifier
from tests.unit.artifacts.conftest import Make

KEY = HmacKey(bytes(32))
TRUSTING = Verifier(keys=(KEY,), required=True)


def listed(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_what_is_written_is_opened(make: Make, tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    found = open_artifact(tmp_path / "a")
    assert found.manifest == made
    assert made.created == "2027-01-15T08:00:00Z"
    assert made.models == ("small", "large")
    np.testing.assert_array_equal(
        found.arrays["weights"], np.random.default_rng(0).random((7, 5), np.float32)
    )
    assert found.arrays["seen"].tolist() == [True, False, True]
    assert found.read("card.md") == b"# A card\n"
    assert found.signature == "unsigned"
    assert listed(tmp_path) == ["a", "a/card.md", "a/manifest.json", "a/weights.safetensors"]


def test_the_same_content_has_the_same_version_and_bytes(make: Make, tmp_path: Path) -> None:
    one, two, other = make(tmp_path / "a"), make(tmp_path / "b"), make(tmp_path / "c", seed=1)
    assert one == two
    assert other.version != one.version
    for name in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_numpy_scalars_become_plain_json(make: Make, tmp_path: Path) -> None:
    made = make(
        tmp_path / "a",
        settings={"k": np.int64(3), "w": np.array([1.5])},
        metrics={"m": np.float32(0.5)},
    )
    assert made.settings == {"k": 3, "w": [1.5]}
    assert open_artifact(tmp_path / "a").manifest.metrics == {"m": 0.5}


def test_arrays_live_on_after_the_folder_and_the_artifact_are_gone(
    make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "a")
    weights = open_artifact(tmp_path / "a").arrays["weights"]
    expected = weights.copy()
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    gc.collect()
    np.testing.assert_array_equal(weights, expected)
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0] = 1


def test_arrays_share_one_mapping_of_the_file(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a", arrays={"x": np.zeros(1 << 16), "y": np.ones(1 << 16)})
    found = open_artifact(tmp_path / "a")
    path = str(tmp_path / "a" / "weights.safetensors")
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if path in line]
    assert len(maps) == 1
    begin, end = (int(part, 16) for part in maps[0].split()[0].split("-"))
    assert maps[0].split()[1] == "r--s"
    for array in found.arrays.values():
        assert begin <= array.ctypes.data < end


def test_every_byte_counts(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a", signer=KEY)
    for name in ("weights.safetensors", "card.md", "manifest.json"):
        path = tmp_path / "a" / name
        good = path.read_bytes()
        for position in range(0, len(good), max(1, len(good) // 60)):
            bad = bytearray(good)
            bad[position] ^= 1
            path.write_bytes(bad)
            with pytest.raises((InvalidArtifact, SignatureRefused)):
                open_artifact(tmp_path / "a", verifier=TRUSTING)
        path.write_bytes(good)
    assert open_artifact(tmp_path / "a", verifier=TRUSTING).signature == "verified"


def test_damage_is_named(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    make(folder)
    weights = folder / "weights.safetensors"
    good = weights.read_bytes()
    for bad, says in (
        (good[:-1], r"weights.safetensors is cut: \d+ of"),
        (b"", "is cut: 0 of"),
        (good + b"x", "at most"),
        (good[:-1] + b"\x07", "was changed"),
    ):
        weights.write_bytes(bad)
        with pytest.raises(InvalidArtifact, match=says):
            open_artifact(folder)
    weights.unlink()
    with pytest.raises(InvalidArtifact, match=f"{folder}: weights.safetensors cannot be read"):
        open_artifact(folder)
    weights.mkdir()
    with pytest.raises(InvalidArtifact, match="is not a file"):
        open_artifact(folder)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="not an artifact"):
        open_artifact(tmp_path / "missing")
    with pytest.raises(InvalidArtifact, match=r"manifest\.json cannot be read"):
        open_artifact(tmp_path)
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(InvalidArtifact, match=r"manifest\.json is not a file"):
        open_artifact(tmp_path)


def test_weights_that_agree_with_the_manifest_are_checked_all_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone may hash hostile weights into a fresh manifest: the header is still not believed."""
    monkeypatch.setattr("routeiq.artifacts.tensors.encode", lambda _: [b"\xff" * 16])
    make(tmp_path / "a")
    with pytest.raises(InvalidArtifact, match="claims"):
        open_artifact(tmp_path / "a")


def test_writing_again_replaces_an_artifact_but_never_other_files(
    make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "a")
    second = make(tmp_path / "a", seed=1, files={})
    assert listed(tmp_path / "a") == ["manifest.json", "weights.safetensors"]
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"notes\.txt"):
        make(tmp_path / "a", seed=2)
    assert open_artifact(tmp_path / "a").manifest == second


def test_a_full_disk_leaves_nothing_half_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(tmp_path / "a")
    left = 0

    def full(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for step in (1, 2, 3, 4):  # the weights, the card, the manifest, the folder
        left = step
        with pytest.raises(ArtifactError, match="disk is full"):
            make(tmp_path / "a", seed=1)
        assert open_artifact(tmp_path / "a").manifest == first
        assert listed(tmp_path) == ["a", "a/card.md", "a/manifest.json", "a/weights.safetensors"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"metrics": {"aiq": float("nan")}}, "not finite"),
        ({"settings": {"f": print}}, "plain data"),
        ({"files": {"../x": b""}}, "called"),
        ({"files": {"manifest.json": b""}}, "called"),
        ({"files": {"weights.safetensors": b""}}, "called"),
        ({"strategy": "a/b"}, "strategy's name"),
        ({"models": ("a", "a")}, "models"),
        ({"arrays": {"a": np.array(["x"])}}, "dtype"),
    ],
)
def test_a_draft_that_cannot_be_written_is_named(
    make: Make, tmp_path: Path, fields: Any, says: str
) -> None:
    with pytest.raises(InvalidArtifact, match=says):
        make(tmp_path / "a", **fields)
    assert listed(tmp_path) == []


def test_signing_in_place_keeps_version_and_files(make: Make, tmp_path: Path) -> None:
    before = make(tmp_path / "a")
    with pytest.raises(SignatureRefused):
        open_artifact(tmp_path / "a", verifier=TRUSTING)
    after = sign_artifact(tmp_path / "a", KEY)
    assert (after.version, after.files) == (before.version, before.files)
    assert open_artifact(tmp_path / "a", verifier=TRUSTING).signature == "verified"
    (tmp_path / "a" / "card.md").write_text("changed")
    with pytest.raises(InvalidArtifact):
        sign_artifact(tmp_path / "a", KEY)


def test_a_signed_manifest_edited_to_fit_other_weights_is_refused(
    make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "a", signer=KEY)
    make(tmp_path / "b", seed=1)
    signature = json.loads((tmp_path / "a" / "manifest.json").read_bytes())["signature"]
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"signature": signature}))
    assert open_artifact(tmp_path / "b").signature == "unchecked"
    with pytest.raises(SignatureRefused, match="wrong"):
        open_artifact(tmp_path / "b", verifier=TRUSTING)


def test_a_swap_while_it_is_opened_does_not_mix_two_artifacts(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a")
    real = module._map
    swapped: list[str] = []

    def slow(folder: int, name: str, limit: int) -> memoryview:
        if name != "manifest.json" and not swapped:
            swapped.append(name)
            os.rename(tmp_path / "a", tmp_path / "old")
            make(tmp_path / "a", seed=1)
        return real(folder, name, limit)

    monkeypatch.setattr(module, "_map", slow)
    first = open_artifact(tmp_path / "a")
    assert swapped
    np.testing.assert_array_equal(
        first.arrays["weights"], np.random.default_rng(0).random((7, 5), np.float32)
    )


def test_an_artifact_without_arrays_is_possible(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a", Draft(strategy="prior", features="", models=(), arrays={}))
    found = open_artifact(tmp_path / "a")
    assert found.arrays == {}
    with pytest.raises(InvalidArtifact, match="no file"):
        found.read("card.md")
