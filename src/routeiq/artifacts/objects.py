"""Objects by name, wherever they are: what S3, GCS and a folder have in common, and downloads that resume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import SourceChanged, SourceError
from .manifest import FileEntry

CHUNK = 1 << 20
TRIES_WITHOUT_PROGRESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An object as it is now: `mark` changes with its content (ETag, generation), `size` is in bytes."""

    mark: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An object's bytes from `start` on, to be closed in any case.

    `start` is 0 where the server could not begin where it was asked to; `size` is that of the whole object.
    """

    mark: str
    size: int
    start: int
    chunks: Iterator[bytes]
    close: Callable[[], None]


class Objects(Protocol):
    """A bucket or a folder."""

    @property
    def uri(self) -> str:
        """Its address, for messages."""
        ...

    def head(self, key: str, known: str | None = None) -> Head | None:
        """How an object is now; None if its mark is still `known`.

        Raises:
            SourceError: it is not there, may not be read, or the network failed.
        """
        ...

    def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
        """Its bytes from `start` on, provided that it still has `mark`.

        Raises:
            SourceChanged: it has another mark by now.
            SourceError: as for `head`; also while the chunks are taken.
        """
        ...


class FolderObjects:
    """Files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def uri(self) -> str:
        """The folder's path."""
        return str(self._root)

    def head(self, key: str, known: str | None = None) -> Head | None:
        """From the file's time, inode and size."""
        try:
            found = os.stat(self._root / key)
        except OSError as error:
            raise SourceError(f"{self._root / key} cannot be read: {error.strerror}.") from error
        head = _head(found)
        return None if head.mark == known else head

    def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
        """The file that has the name now; one that is renamed over it meanwhile does not mix in."""
        try:
            file = (self._root / key).open("rb")
        except OSError as error:
            raise SourceError(f"{self._root / key} cannot be read: {error.strerror}.") from error
        head = _head(os.fstat(file.fileno()))
        if mark not in (None, head.mark):
            file.close()
            raise SourceChanged(f"{self._root / key} was replaced while it was read.")

        def chunks() -> Iterator[bytes]:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

        return Body(mark=head.mark, size=head.size, start=start, chunks=chunks(), close=file.close)


def _head(found: os.stat_result) -> Head:
    return Head(mark=f"{found.st_mtime_ns}-{found.st_ino}-{found.st_size}", size=found.st_size)


def small(objects: Objects, key: str, *, mark: str | None, limit: int) -> bytes:
    """A small object as a whole.

    Raises:
        SourceError: it is longer than `limit` or cannot be read. SourceChanged: it has another mark.
    """
    data = bytearray()
    with closing(objects.read(key, mark=mark)) as body:
        if mark not in (None, body.mark):
            raise SourceChanged(f"{objects.uri}: {key} was replaced while it was read.")
        for chunk in body.chunks:
            data += chunk
            if len(data) > limit:
                raise SourceError(f"{objects.uri}: {key} is longer than {limit} bytes.")
    if len(data) != body.size:
        raise SourceError(f"{objects.uri}: {key} was cut at {len(data)} of {body.size} bytes.")
    return bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One object of `size` bytes on its way to the file `target`.

    What has arrived waits in `<target>.part` for the next try, and in `<target>.part.mark` the mark of the object
    that it is a part of.
    """

    objects: Objects
    key: str
    target: Path
    size: int

    @property
    def _part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def _note(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.mark")

    def run(self, mark: str | None = None) -> None:
        """Fetch what is missing, then give the file its name.

        Raises:
            SourceChanged: the object has another mark than `mark`, or another size than was announced.
            SourceError: the connection broke several times without a byte of progress.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if mark is not None and self._known() not in (None, mark):
            self._forget()
        tries, older = 0, mark is None and self._known() is not None
        while (have := self._have()) < self.size or (not self.size and not self._part.exists()):
            try:
                self._piece(have, self._known() or mark)
            except SourceChanged:
                self._forget()
                if not older:
                    raise
                older = False  # what was here was a part of an older one: begin again, once
            except SourceError:
                tries = tries + 1 if self._have() <= have else 0
                if tries >= TRIES_WITHOUT_PROGRESS:
                    raise
        os.replace(self._part, self.target)
        self._note.unlink(missing_ok=True)

    def _piece(self, have: int, mark: str | None) -> None:
        with closing(self.objects.read(self.key, start=have, mark=mark)) as body:
            self._take(body)

    def _take(self, body: Body) -> None:
        if body.size != self.size:
            raise SourceChanged(
                f"{self.objects.uri}: {self.key} has {body.size} bytes, {self.size} were announced."
            )
        self._note.write_text(body.mark, encoding="utf-8")
        with self._part.open("r+b" if self._part.exists() else "wb") as file:
            file.truncate(body.start)
            file.seek(body.start)
            written = body.start
            for chunk in body.chunks:
                written += len(chunk)
                if written > self.size:
                    raise SourceChanged(f"{self.objects.uri}: {self.key} is longer than announced.")
                file.write(chunk)
        if written < self.size:
            raise SourceError(
                f"{self.objects.uri}: {self.key} was cut at {written} of {self.size} bytes."
            )

    def _have(self) -> int:
        try:
            return self._part.stat().st_size if self._known() is not None else 0
        except FileNotFoundError:
            return 0

    def _known(self) -> str | None:
        try:
            return self._note.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _forget(self) -> None:
        for path in (self._part, self._note):
            path.unlink(missing_ok=True)


def is_whole(path: Path, entry: FileEntry) -> bool:
    """Whether a file has the size and the SHA-256 that a manifest names."""
    with suppress(OSError), path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != entry.size:
            return False
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    return False
