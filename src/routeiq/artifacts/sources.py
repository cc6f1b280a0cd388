"""Places that artifacts come from: a folder, S3 or GCS, as the artifact's files or as one .tar.

The files lie under the address as they lie in an artifact's folder; whoever publishes writes manifest.json last,
because its change is what readers look for. A .tar is plain (not compressed: weights do not compress).
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from routeiq.exceptions import ConfigError, Problem

from .errors import InvalidArtifact, SourceChanged, SourceError
from .files import replace_file
from .manifest import MANIFEST, MAX_FILES, MAX_MANIFEST, Manifest, clashing, parse, safe_name
from .objects import Download, FolderObjects, Objects, is_whole, small

MAX_DOWNLOAD = 1 << 30
_ARCHIVE = ".artifact.tar"
Check = Callable[[bytes], Manifest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something new at a source: the mark (ETag, generation) of what is polled."""

    mark: str
    size: int


class Source(Protocol):
    """A place that artifacts come from."""

    @property
    def uri(self) -> str:
        """Its address, for messages and the status."""
        ...

    def poll(self, known: str | None) -> Change | None:
        """What is there now; None if its mark is still `known`.

        Raises:
            SourceError: there is nothing, it may not be read, or the network failed.
        """
        ...

    def fetch(self, change: Change, into: Path, *, check: Check = parse) -> None:
        """Bring the artifact into the folder `into`, going on where an earlier call for it was cut.

        `check` sees manifest.json before anything else is fetched, and refuses it by raising.

        Raises:
            SourceChanged: it was replaced meanwhile. SourceError: it could not be read.
            InvalidArtifact: too large, or not an artifact.
        """
        ...


class FilesSource:
    """An artifact's files under one address."""

    def __init__(self, objects: Objects, *, max_bytes: int = MAX_DOWNLOAD) -> None:
        self._objects = objects
        self._max_bytes = max_bytes

    @property
    def uri(self) -> str:
        """The address of the folder or prefix."""
        return self._objects.uri

    def poll(self, known: str | None) -> Change | None:
        """Look at manifest.json."""
        head = self._objects.head(MANIFEST, known)
        return None if head is None else Change(mark=head.mark, size=head.size)

    def fetch(self, change: Change, into: Path, *, check: Check = parse) -> None:
        """The manifest first, then what it names; files that are there already are not fetched again."""
        raw = small(self._objects, MANIFEST, mark=change.mark, limit=MAX_MANIFEST)
        manifest = check(raw)
        into.mkdir(parents=True, exist_ok=True)
        _room(into, manifest.size, self._max_bytes)
        for name, entry in manifest.files.items():
            target = into / name
            if is_whole(target, entry):
                continue
            Download(objects=self._objects, key=name, target=target, size=entry.size).run()
            if not is_whole(target, entry):
                target.unlink()
                raise SourceChanged(
                    f"{self.uri}: {name} is not the file that manifest.json names: "
                    "it was changed, or is being published right now."
                )
        replace_file(into / MANIFEST, raw)


class ArchiveSource:
    """An artifact as one .tar."""

    def __init__(self, objects: Objects, key: str, *, max_bytes: int = MAX_DOWNLOAD) -> None:
        self._objects = objects
        self._key = key
        self._max_bytes = max_bytes

    @property
    def uri(self) -> str:
        """The address of the archive."""
        return f"{self._objects.uri}/{self._key}"

    def poll(self, known: str | None) -> Change | None:
        """Look at the archive."""
        head = self._objects.head(self._key, known)
        return None if head is None else Change(mark=head.mark, size=head.size)

    def fetch(self, change: Change, into: Path, *, check: Check = parse) -> None:
        """The whole archive, then its files."""
        into.mkdir(parents=True, exist_ok=True)
        _room(into, 2 * change.size, 2 * self._max_bytes)
        archive = into / _ARCHIVE
        if not (archive.is_file() and archive.stat().st_size == change.size):
            Download(objects=self._objects, key=self._key, target=archive, size=change.size).run(
                change.mark
            )
        unpack(archive, into, max_bytes=self._max_bytes)
        archive.unlink()
        check((into / MANIFEST).read_bytes())


def unpack(archive: Path, into: Path, *, max_bytes: int) -> None:
    """Unpack an artifact's .tar: plain files with plain names only, and no more bytes than allowed.

    Raises:
        InvalidArtifact: not a .tar, a link or device, a name that leaves the folder or stands twice, too many
            files or bytes, or no manifest.json.
    """
    seen: set[str] = set()
    total = 0
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                total += member.size
                if not member.isreg() or member.issparse() or not safe_name(name):
                    raise InvalidArtifact(f"the archive holds {member.name!r:.80}: refused.")
                if name in seen or clashing({*seen, name}):
                    raise InvalidArtifact(f"the archive holds {name!r:.80} twice: refused.")
                seen.add(name)
                if len(seen) > MAX_FILES + 1 or total > max_bytes:
                    raise InvalidArtifact("the archive holds too many files or bytes: refused.")
                _extract(tar, member, into / name)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InvalidArtifact(f"the archive cannot be read: {error}.") from error
    if MANIFEST not in seen:
        raise InvalidArtifact(f"the archive holds no {MANIFEST}.")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None:  # cannot be: it is a plain file
        raise InvalidArtifact(f"the archive holds {member.name!r:.80} without content.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def source_from(
    uri: str, *, environ: Mapping[str, str] | None = None, max_bytes: int = MAX_DOWNLOAD
) -> Source:
    """The source at an address: a path, `file://`, `s3://bucket/prefix` or `gs://bucket/prefix`.

    An address that ends in `.tar` is one archive; one that ends in `/manifest.json` means its folder.

    Args:
        uri: the address.
        environ: where `AWS_ENDPOINT_URL` and `STORAGE_EMULATOR_HOST` are looked up; none by default.
        max_bytes: an artifact that is larger is refused before it is fetched.

    Raises:
        ConfigError: not such an address, or the package for it is not installed.
    """
    parts = urlsplit(uri)
    path = parts.path.removesuffix(f"/{MANIFEST}").rstrip("/")
    folder, _, key = path.rpartition("/")
    archive = path.endswith(".tar")
    place = folder if archive else path
    objects = _objects(uri, parts.scheme, parts.netloc, place, environ or {})
    if archive:
        return ArchiveSource(
            objects, unquote(key) if parts.scheme == "file" else key, max_bytes=max_bytes
        )
    return FilesSource(objects, max_bytes=max_bytes)


def _objects(uri: str, scheme: str, bucket: str, path: str, environ: Mapping[str, str]) -> Objects:
    if scheme in ("s3", "gs") and bucket:
        if scheme == "s3":
            from .objects_s3 import S3Objects

            return S3Objects(bucket, path.strip("/"), environ=environ)
        from .objects_gcs import GcsObjects

        return GcsObjects(bucket, path.strip("/"), environ=environ)
    if scheme == "file" and bucket in ("", "localhost"):
        return FolderObjects(Path(unquote(path) or "/"))
    if not scheme and uri:
        return FolderObjects(Path(path or ("/" if uri.startswith("/") else ".")))
    message = f"{uri!r} is not an address of artifacts."
    fix = "Give a folder, file:///folder, s3://bucket/prefix or gs://bucket/prefix."
    raise ConfigError([Problem(key="ROUTEIQ_MODEL_S3_URI", message=message, fix=fix)])


def _room(into: Path, needed: int, allowed: int) -> None:
    if needed > allowed:
        raise InvalidArtifact(f"it needs {needed} bytes; {allowed} are allowed.")
    free = os.statvfs(into)
    if needed > free.f_bavail * free.f_frsize:
        raise SourceError(f"the disk of {into} is full: {needed} bytes are needed.")
