"""The store: versions of artifacts on a disk, and which one is active.

    <path>/versions/<version>/   staged artifacts; never changed once they are there
    <path>/active.json           which version each strategy uses, and those before it
    <path>/<strategy>/           a plain artifact, as `routeiq models train` writes it; used if none is promoted

Readers take no lock: every change is one rename. Writers take turns by a file lock, which the kernel gives back
when a process dies; what a dead writer left behind is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from . import activation
from .activation import Activation, Activations
from .artifact import Artifact, open_artifact, write_parts
from .errors import InvalidArtifact, StoreError
from .files import locked, replace_file
from .manifest import MANIFEST, MAX_MANIFEST, Manifest, parse, strategy_name, version_name
from .signature import Verifier

VERSIONS = "versions"
ACTIVE = "active.json"
LOCK = ".lock"
Accept = Callable[[Artifact], None]
Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """One line of the listing.

    `state` is active, previous, withdrawn, staged or damaged; `problem` says why it cannot be read.
    """

    version: str
    strategy: str
    state: str
    created: str = ""
    size: int = 0
    key_id: str = ""
    problem: str = ""


class ArtifactStore:
    """Versions and their activation under one folder, safe with several processes and crashes at any point."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(
        self, folder: Path, *, verifier: Verifier | None = None, accept: Accept | None = None
    ) -> str:
        """Check an artifact and copy the bytes that were checked into the store; returns its version.

        Staging the same version again changes nothing, except that a new signature replaces an older one.

        Raises:
            InvalidArtifact: it is damaged. SignatureRefused: the policy does not accept it.
            ArtifactError: `accept` refused it by raising that, or the disk is full.
        """
        artifact = open_artifact(folder, verifier=verifier)
        if accept is not None:
            accept(artifact)
        manifest = artifact.manifest
        place = self.folder(manifest.version)
        with self._writing():
            if _intact(place):
                if (place / MANIFEST).read_bytes() != manifest.encoded():
                    replace_file(place / MANIFEST, manifest.encoded())
                os.utime(place)
            else:
                parts: dict[str, list[bytes | memoryview]] = {
                    name: [content] for name, content in artifact.contents.items()
                }
                write_parts(place, manifest, parts, mode=0o444)
        return manifest.version

    def promote(
        self, strategy: str, version: str, *, verifier: Verifier | None = None
    ) -> Activation:
        """Make a staged version (or the start of its name) the one that `strategy` uses; it is checked again.

        Raises:
            StoreError: no such version, several, or one of another strategy.
            InvalidArtifact: it was damaged on the disk. SignatureRefused: the policy does not accept it.
        """
        version = self.resolve(version)  # before the lock: a mistake leaves no file behind
        with self._writing():
            manifest = open_artifact(self.folder(version), verifier=verifier).manifest
            if manifest.strategy != strategy:
                raise StoreError(
                    f"version {version} is one of {manifest.strategy!r}, not of {strategy!r}."
                )
            os.utime(self.folder(version))  # the order that `prune` goes by
            return self._change(strategy, lambda state: state.promoted(version))

    def rollback(self, strategy: str) -> Activation:
        """Go back to the version before, or to the plain folder if there was none before.

        The version that is left is withdrawn: `promote` brings it back, a sync does not.

        Raises:
            StoreError: nothing is promoted, or there is nothing to go back to.
        """
        self.activation(strategy).rolled_back()  # before the lock: a mistake leaves no file behind
        with self._writing():
            state = self.activation(strategy)
            after = state.rolled_back()
            if after.version and not _whole(self.folder(after.version)):
                raise StoreError(f"version {after.version}, the one before, is not in the store.")
            if not after.version and not _whole(self.path / strategy):
                raise StoreError(
                    f"{strategy!r} has no version before {state.version} and no plain folder."
                )
            return self._change(strategy, Activation.rolled_back)

    def active(self, strategy: str) -> Path | None:
        """The folder that `strategy` is to use, or None if there is none.

        It is not opened here: open it with the verifier. If the promoted version is not on the disk any more,
        the one before it counts, then the plain folder.
        """
        state = self.activation(strategy)
        places = [self.folder(v) for v in (state.version, *state.previous) if v]
        if strategy_name(strategy):
            places.append(self.path / strategy)
        return next((place for place in places if _whole(place)), None)

    def activation(self, strategy: str) -> Activation:
        """What active.json says of a strategy.

        Raises:
            StoreError: active.json is damaged.
        """
        return self._read().of(strategy)

    def stamp(self, strategy: str = "") -> Stamp:
        """Something that changes whenever `active` may; costs two `stat` calls, so poll it each second."""
        return (_stat(self.path / ACTIVE), _stat(self.path / strategy / MANIFEST))

    def listing(self) -> list[Staged]:
        """All staged versions, by strategy, the last used first."""
        states = self._read()
        lines = [self._line(version, states) for version in self._versions()]
        return sorted(lines, key=lambda line: line.strategy)

    def prune(self, *, keep: int) -> list[str]:
        """Remove versions that are neither active nor previous, except the `keep` last used.

        Returns those that are gone. A version that was just staged is the last used: where others stage and
        promote at the same time, keep at least as many as there are of them.
        """
        if keep < 0:
            raise ValueError("keep must not be negative.")
        if not self._versions():
            return []
        with self._writing():
            states = self._read().strategies.values()
            pinned = frozenset[str]().union(*(state.pinned for state in states))
            gone = [version for version in self._versions() if version not in pinned][keep:]
            for version in gone:
                self._remove(self.folder(version))
        return gone

    def folder(self, version: str) -> Path:
        """Where a version is kept.

        Raises:
            StoreError: not the form of a version.
        """
        if not version_name(version):
            raise StoreError(f"{version!r:.80} is not a version: 32 hex digits are.")
        return self.path / VERSIONS / version

    def resolve(self, start: str) -> str:
        """The one version whose name starts so.

        Raises:
            StoreError: none does, or several do.
        """
        found = [version for version in self._versions() if start and version.startswith(start)]
        if len(found) != 1:
            what = "is not in the store" if not found else f"could be any of {', '.join(found)}"
            raise StoreError(f"version {start!r:.80} {what}.")
        return found[0]

    def _line(self, version: str, states: Activations) -> Staged:
        try:
            with (self.folder(version) / MANIFEST).open("rb") as file:
                manifest = parse(file.read(MAX_MANIFEST + 1))
        except (OSError, InvalidArtifact) as error:
            return Staged(version=version, strategy="", state="damaged", problem=str(error))
        return replace(
            _described(manifest), state=_state(manifest.version, states.of(manifest.strategy))
        )

    def _versions(self) -> list[str]:
        """The versions on the disk, the last used first."""
        try:
            with os.scandir(self.path / VERSIONS) as entries:
                found = [
                    (entry.stat().st_mtime_ns, entry.name)
                    for entry in entries
                    if version_name(entry.name)
                ]
        except FileNotFoundError:
            return []
        return [name for _, name in sorted(found, reverse=True)]

    def _read(self) -> Activations:
        try:
            raw = (self.path / ACTIVE).read_bytes()
        except FileNotFoundError:
            return Activations()
        except OSError as error:
            raise StoreError(f"{self.path / ACTIVE} cannot be read: {error.strerror}.") from error
        return activation.parse(raw)

    def _change(self, strategy: str, step: Callable[[Activation], Activation]) -> Activation:
        states = self._read()
        state = step(states.of(strategy))
        if state != states.of(strategy):
            replace_file(self.path / ACTIVE, states.having(strategy, state).encoded())
        return state

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the only writer; first remove what a writer that died has left."""
        try:
            with locked(self.path / LOCK):
                self._sweep()
                yield
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be written: {error}. Nothing was changed."
            ) from error

    def _sweep(self) -> None:
        for path in (self.path / VERSIONS).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(f".{ACTIVE}.*"):
            path.unlink(missing_ok=True)

    def _remove(self, place: Path) -> None:
        """Out of sight first, by one rename, so that no reader finds half of it."""
        aside = place.with_name(f".{place.name}.gone")
        os.rename(place, aside)
        shutil.rmtree(aside)


def _whole(place: Path) -> bool:
    """A folder with a manifest: it is renamed into place, so the other files are there too."""
    return (place / MANIFEST).is_file()


def _intact(place: Path) -> bool:
    """Whether what was staged there once is still readable; disks do lose bits."""
    try:
        open_artifact(place)
    except InvalidArtifact:
        return False
    return True


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _described(manifest: Manifest) -> Staged:
    return Staged(
        version=manifest.version,
        strategy=manifest.strategy,
        state="",
        created=manifest.created,
        size=manifest.size,
        key_id=manifest.signature.key_id if manifest.signature else "",
    )


def _state(version: str, state: Activation) -> str:
    if version == state.version:
        return "active"
    if version in state.previous:
        return "previous"
    return "withdrawn" if version in state.withdrawn else "staged"
