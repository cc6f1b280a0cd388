"""An artifact: a folder with manifest.json, weights.safetensors and, if any, a card and reports.

Writing makes the folder appear complete or not at all. Opening maps the weights once, read-only, hashes *that
mapping* and only then hands out views on it: what was checked is what is used, and workers share its pages.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routeiq.ports import Clock, SystemClock

from .errors import ArtifactError, InvalidArtifact
from .files import Bytes, new_folder, replace_file, write_file
from .manifest import MANIFEST, MAX_MANIFEST, WEIGHTS, FileEntry, Manifest, parse, safe_name
from .signature import Signer, Verifier, signed

if TYPE_CHECKING:  # NumPy is loaded with the first artifact: most gateways start without one
    from .tensors import Array

_SETTABLE = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What training hands over: everything of an artifact that is not derived.

    `arrays` are the estimator's numbers, `settings` and `metrics` plain JSON (NumPy scalars are fine, NaN is not),
    `files` further files by name, such as `card.md`.
    """

    strategy: str
    features: str
    models: tuple[str, ...]
    arrays: Mapping[str, Array]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    certificates: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artifact:
    """An opened artifact. `arrays` are read-only views on the mapped file, which lives as long as they do.

    `signature` says what the check found: `verified`, `unsigned` or `unchecked` (no key was configured).
    """

    manifest: Manifest
    arrays: Mapping[str, Array]
    folder: Path
    signature: str
    contents: Mapping[str, memoryview] = field(repr=False)

    def read(self, name: str) -> bytes:
        """The verified content of one of the artifact's files.

        Raises:
            InvalidArtifact: the artifact has no such file.
        """
        if name not in self.contents:
            raise InvalidArtifact(f"{self.folder} has no file {name!r}.")
        return bytes(self.contents[name])


def write_artifact(
    folder: Path, draft: Draft, *, signer: Signer | None = None, clock: Clock | None = None
) -> Manifest:
    """Write `draft` as the artifact `folder`, signed if there is a signer; replaces an older artifact there.

    Raises:
        InvalidArtifact: the draft has a name or a value that cannot be written.
        ArtifactError: the disk is full or the folder cannot be written; what stood there stands there still.
    """
    from .tensors import encode

    parts: dict[str, list[Bytes]] = {WEIGHTS: encode(draft.arrays)}
    parts |= {name: [content] for name, content in draft.files.items()}
    manifest = _describe(draft, parts, clock or SystemClock())
    if signer is not None:
        manifest = signed(manifest, signer)
    _writable(folder)
    write_parts(folder, manifest, parts)
    return manifest


def write_parts(
    folder: Path, manifest: Manifest, parts: Mapping[str, list[Bytes]], mode: int = 0o644
) -> None:
    """Make the folder of files that are known to be `manifest`'s; the manifest is written last.

    Raises:
        ArtifactError: the folder cannot be written; nothing of it is left.
    """
    try:
        with new_folder(folder) as made:
            for name, content in parts.items():
                write_file(made / name, content)
            write_file(made / MANIFEST, [manifest.encoded()])
            for name in (*parts, MANIFEST):
                (made / name).chmod(mode)
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise ArtifactError(f"{folder} cannot be written: {why}. Nothing was changed.") from error


def sign_artifact(folder: Path, signer: Signer) -> Manifest:
    """Check the artifact's files and sign its manifest in place.

    Raises:
        InvalidArtifact: it is not whole; a damaged artifact is not signed.
        ArtifactError: the manifest cannot be written.
    """
    manifest = signed(open_artifact(folder).manifest, signer)
    try:
        replace_file(folder / MANIFEST, manifest.encoded())
    except OSError as error:
        raise ArtifactError(f"{folder / MANIFEST} cannot be written: {error}.") from error
    return manifest


def open_artifact(folder: Path, *, verifier: Verifier | None = None) -> Artifact:
    """Open and check an artifact: signature (if `verifier` asks), every file's size and SHA-256, the arrays.

    Raises:
        InvalidArtifact: not an artifact, or damaged; the message names the file.
        SignatureRefused: the policy does not accept its signature.
    """
    try:
        # Names are looked up in the folder that was opened, so that a swap meanwhile cannot mix two artifacts.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArtifact(f"{folder} is not an artifact: {error.strerror}.") from error
    try:
        manifest = parse(bytes(_map(descriptor, MANIFEST, MAX_MANIFEST)))
        status = (verifier or Verifier()).check(manifest)
        contents = {
            name: _checked(descriptor, name, entry) for name, entry in manifest.files.items()
        }
        from .tensors import decode

        arrays = decode(contents[WEIGHTS])
    except ArtifactError as error:
        raise type(error)(f"{folder}: {error}") from error
    finally:
        os.close(descriptor)
    return Artifact(
        manifest=manifest, arrays=arrays, folder=folder, signature=status, contents=contents
    )


def _map(folder: int, name: str, limit: int) -> memoryview:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise InvalidArtifact(f"{name} cannot be read: {error.strerror}.") from error
    try:
        found = os.fstat(descriptor)
        size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArtifact(f"{name} is not a file.")
        if size > limit:
            raise InvalidArtifact(f"{name} has {size} bytes, at most {limit} were expected.")
        if size == 0:
            return memoryview(b"")  # an empty file cannot be mapped
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise InvalidArtifact(f"{name} cannot be mapped: {error}.") from error
    finally:
        os.close(descriptor)


def _checked(folder: int, name: str, entry: FileEntry) -> memoryview:
    content = _map(folder, name, entry.size)
    if len(content) != entry.size:
        raise InvalidArtifact(f"{name} is cut: {len(content)} of {entry.size} bytes.")
    if (found := hashlib.sha256(content).hexdigest()) != entry.sha256:
        raise InvalidArtifact(
            f"{name} was changed: its SHA-256 is {found[:16]}…, "
            f"the manifest says {entry.sha256[:16]}…."
        )
    return content


def _describe(draft: Draft, parts: Mapping[str, list[Bytes]], clock: Clock) -> Manifest:
    for name in parts:
        if not safe_name(name) or name == MANIFEST or (name == WEIGHTS and name in draft.files):
            raise InvalidArtifact(f"a file of an artifact cannot be called {name!r}.")
    manifest = Manifest(
        strategy=draft.strategy,
        version="",
        created=datetime.fromtimestamp(clock.wall(), UTC).strftime(_SETTABLE),
        features=draft.features,
        models=tuple(draft.models),
        data_sha256=draft.data_sha256,
        settings=_json("settings", dict(draft.settings)),
        metrics=_json("metrics", dict(draft.metrics)),
        certificates=_json("certificates", list(draft.certificates)),
        files={name: _entry(content) for name, content in parts.items()},
    )
    document = manifest.document() | {"version": manifest.content_version()}
    return parse(json.dumps(document).encode())


def _entry(parts: list[Bytes]) -> FileEntry:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return FileEntry(sha256=digest.hexdigest(), size=sum(len(part) for part in parts))


def _json(name: str, value: Any) -> Any:
    """`value` as it will be read back, so that the version is that of what is read."""
    try:
        return json.loads(json.dumps(value, default=_scalar, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidArtifact(
            f"{name} cannot be written as JSON: {error}. Leave out figures that are not finite."
        ) from error


def _scalar(value: object) -> object:
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not plain data")


def _writable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an artifact."""
    if not folder.exists():
        return
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    if not found:
        return
    try:
        own = {MANIFEST, *parse((folder / MANIFEST).read_bytes()).files}
    except (OSError, InvalidArtifact):
        own = {MANIFEST, WEIGHTS}
    if strange := sorted(found - own):
        raise ArtifactError(
            f"{folder} holds {strange[0]!r}, which is not an artifact's: give a new or empty folder."
        )
