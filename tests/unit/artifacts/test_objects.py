from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from routeiq.artifacts.errors import SourceChanged, SourceError
from routeiq.artifacts.manifest import FileEntry
from routeiq.artifacts.objects import Body, Download, FolderObjects, Head, is_whole, small

CONTENT = bytes(range(256)) * 4


class Flaky:
    """One object whose connection breaks after so many bytes, call by call; `calls` are (start, mark)."""

    uri = "flaky://"

    def __init__(self, *breaks: int | None, content: bytes = CONTENT, mark: str = "m1") -> None:
        self.breaks = list(breaks)
        self.content = content
        self.mark = mark
        self.ranges = True
        self.open = 0
        self.calls: list[tuple[int, str | None]] = []

    def head(self, key: str, known: str | None = None) -> Head | None:
        return None if known == self.mark else Head(mark=self.mark, size=len(self.content))

    def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
        self.calls.append((start, mark))
        self.open += 1
        if mark not in (None, self.mark):
            self.open -= 1
            raise SourceChanged("replaced")
        begin = start if self.ranges else 0
        size = len(self.content)
        return Body(
            mark=self.mark, size=size, start=begin, chunks=self._chunks(begin), close=self.closed
        )

    def closed(self) -> None:
        self.open -= 1

    def _chunks(self, begin: int) -> Iterator[bytes]:
        limit = self.breaks.pop(0) if self.breaks else None
        end = len(self.content) if limit is None else begin + limit
        for at in range(begin, min(end, len(self.content)), 100):
            yield self.content[at : min(at + 100, end)]
        if limit is not None:
            raise SourceError("cut")


def _nothing() -> None:
    """There is no connection to close."""


def download(objects: Flaky, tmp_path: Path, size: int = len(CONTENT)) -> Download:
    return Download(objects=objects, key="k", target=tmp_path / "sub" / "k", size=size)


def names(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "sub").iterdir())


def test_a_cut_download_goes_on_where_it_was(tmp_path: Path) -> None:
    objects = Flaky(300, 200, None)
    download(objects, tmp_path).run()
    assert objects.calls == [(0, None), (300, "m1"), (500, "m1")]
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT
    assert names(tmp_path) == ["k"]


def test_a_later_process_goes_on_too(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cut"):
        download(Flaky(300, 0, 0, 0), tmp_path).run()
    assert names(tmp_path) == ["k.part", "k.part.mark"]
    objects = Flaky()
    download(objects, tmp_path).run()
    assert objects.calls == [(300, "m1")]
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT


def test_without_progress_it_gives_up_after_three_tries(tmp_path: Path) -> None:
    objects = Flaky(0, 0, 0, 0, 0)
    with pytest.raises(SourceError, match="cut"):
        download(objects, tmp_path).run()
    assert len(objects.calls) == 3


def test_many_cuts_with_progress_are_no_reason_to_give_up(tmp_path: Path) -> None:
    objects = Flaky(*[100] * 11)
    download(objects, tmp_path).run()
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(tmp_path: Path) -> None:
    objects = Flaky(300, None)
    objects.ranges = False
    download(objects, tmp_path).run()
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT


def test_parts_of_two_objects_are_never_joined(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        download(Flaky(300, 0, 0, 0), tmp_path).run()
    other = Flaky(content=CONTENT[::-1], mark="m2")
    download(other, tmp_path).run()
    assert other.calls == [(300, "m1"), (0, None)]
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT[::-1]


def test_an_object_of_another_mark_than_was_polled_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        download(Flaky(300, 0, 0, 0), tmp_path).run("m1")
    moved = Flaky(mark="m2")
    with pytest.raises(SourceChanged):
        download(moved, tmp_path).run("m1")
    assert names(tmp_path) == []
    download(moved, tmp_path).run("m2")
    assert moved.calls == [(300, "m1"), (0, "m2")]


def test_a_part_of_an_older_object_is_not_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        download(Flaky(300, 0, 0, 0), tmp_path).run("m1")
    newer = Flaky(content=CONTENT[::-1], mark="m2")
    download(newer, tmp_path).run("m2")
    assert newer.calls == [(0, "m2")]
    assert (tmp_path / "sub" / "k").read_bytes() == CONTENT[::-1]


def test_an_object_of_another_size_than_announced_is_not_taken(tmp_path: Path) -> None:
    objects = Flaky()
    with pytest.raises(SourceChanged, match="1024 bytes, 1000 were announced"):
        download(objects, tmp_path, size=1000).run()
    assert objects.open == 0, "the connection is given back"
    assert names(tmp_path) == []


def test_more_bytes_than_the_server_itself_said_are_not_written(tmp_path: Path) -> None:
    class Lying(Flaky):
        def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
            return Body(
                mark="m", size=10, start=0, chunks=iter([b"x" * 8, b"x" * 8]), close=_nothing
            )

    with pytest.raises(SourceChanged, match="longer than announced"):
        download(Lying(), tmp_path, size=10).run()

    class Short(Flaky):
        def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
            return Body(mark="m", size=10, start=start, chunks=iter([]), close=_nothing)

    with pytest.raises(SourceError, match="cut at 0 of 10"):
        download(Short(), tmp_path, size=10).run()


def test_an_empty_object_is_fetched(tmp_path: Path) -> None:
    download(Flaky(content=b""), tmp_path, size=0).run()
    assert (tmp_path / "sub" / "k").read_bytes() == b""


def test_small_objects_are_bounded_and_whole() -> None:
    assert small(Flaky(), "k", mark="m1", limit=2000) == CONTENT
    with pytest.raises(SourceError, match="longer than 1000"):
        small(Flaky(), "k", mark=None, limit=1000)
    with pytest.raises(SourceChanged):
        small(Flaky(mark="m2"), "k", mark="m1", limit=2000)

    class Short(Flaky):
        def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
            return Body(mark="m3", size=10, start=0, chunks=iter([b"x"]), close=_nothing)

    with pytest.raises(SourceError, match="cut at 1 of 10"):
        small(Short(), "k", mark=None, limit=100)
    with pytest.raises(SourceChanged):
        small(Short(), "k", mark="m1", limit=100)


def test_a_folder_marks_its_files(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    head = objects.head("a")
    assert head is not None
    assert head.size == len(CONTENT)
    assert objects.head("a", head.mark) is None
    body = objects.read("a", start=1000, mark=head.mark)
    assert b"".join(body.chunks) == CONTENT[1000:]
    body.close()
    (tmp_path / "b").write_bytes(CONTENT)
    os.replace(tmp_path / "b", path)
    assert objects.head("a", head.mark) is not None
    with pytest.raises(SourceChanged, match="replaced"):
        objects.read("a", mark=head.mark)
    for call in (objects.head, objects.read):
        with pytest.raises(SourceError, match="No such file"):
            call("missing")


def test_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert is_whole(path, FileEntry(sha256=sha256, size=len(CONTENT)))
    assert not is_whole(path, FileEntry(sha256=sha256, size=1))
    assert not is_whole(path, FileEntry(sha256="0" * 64, size=len(CONTENT)))
    assert not is_whole(tmp_path / "missing", FileEntry(sha256=sha256, size=1))
