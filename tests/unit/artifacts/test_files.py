from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from routeiq.artifacts import files
from routeiq.artifacts.files import Lease, exchange, locked, new_folder, replace_file, write_file


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "place"
    with new_folder(place) as made:
        write_file(made / "sub" / "a", [b"1", memoryview(b"2")])
        assert not place.exists()
    assert (place / "sub" / "a").read_bytes() == b"12"
    assert names(tmp_path) == ["deep", "deep/place", "deep/place/sub", "deep/place/sub/a"]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_that_is_there_is_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    if not swaps:  # an old kernel or a file system without the call
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    place = tmp_path / "place"
    write_file(place / "old", [b"old"])
    removed: list[bool] = []
    remove = shutil.rmtree

    def watched(path: Path, ignore_errors: bool = False) -> None:
        removed.append((place / "new").exists())
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    with new_folder(place) as made:
        write_file(made / "new", [b"new"])
    assert names(tmp_path) == ["place", "place/new"]
    assert removed
    assert all(removed), "the old goes only after the new has taken its place"


def test_after_an_error_nothing_is_left_and_the_old_stands(tmp_path: Path) -> None:
    place = tmp_path / "place"
    write_file(place / "old", [b"old"])

    def fail() -> None:
        with new_folder(place) as made:
            write_file(made / "new", [b"new"])
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert names(tmp_path) == ["place", "place/old"]


def test_exchange_swaps_two_folders_in_one_step(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "one", [b""])
    write_file(tmp_path / "b" / "two", [b""])
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["a", "a/two", "b", "b/one"]
    assert not exchange(tmp_path / "a", tmp_path / "missing")


def test_a_file_is_replaced_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"three")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_write_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    write_file(tmp_path / "a", [b"1"])
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", [b"2"])


def test_a_lease_has_one_holder_and_is_not_waited_for(tmp_path: Path) -> None:
    one, other = Lease(tmp_path / "lease"), Lease(tmp_path / "lease")
    assert one.acquire()
    assert one.acquire(), "again: it is held already"
    assert not other.acquire()
    assert (one.held, other.held) == (True, False)
    assert other.holder() == str(os.getpid())
    one.release()
    one.release()
    assert other.acquire()
    assert Lease(tmp_path / "none").holder() == ""


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path / "lock"):
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    lease = Lease(tmp_path / "lock")
    assert lease.acquire()
    lease.release()
