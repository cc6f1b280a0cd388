"""Keeps the store in step with a source: poll, fetch, check, stage, promote. Blocking: it runs in a thread.

Whatever goes wrong, what is active stays active, and the status says why. One process of a machine does it: the
one that holds a file lock, which the kernel hands on when that process dies; the others skip without waiting.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from routeiq.ports import Clock, SystemClock

from . import strict_json
from .errors import ArtifactError, InvalidArtifact, MismatchedArtifact, SignatureRefused
from .files import Lease, replace_file
from .manifest import MANIFEST, Manifest, parse
from .signature import Verifier
from .sources import Change, Source
from .store import Accept, ArtifactStore

MIN_INTERVAL_S = 5.0
MAX_INTERVAL_S = 300.0
JITTER = 0.2
KEEP = 5
STATE = "sync.json"
LEASE = ".sync.lock"
DOWNLOADS = "downloads"
_REFUSALS = (InvalidArtifact, SignatureRefused, MismatchedArtifact)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStatus:
    """What a sync did. Times are ISO 8601 in UTC; `etag` is the mark of what was promoted last.

    `refused` counts artifacts that were seen and not accepted, `errors` rounds that failed on the way, `skipped`
    rounds in which another process had the lease, `failures` the failed rounds since the last good one.
    """

    uri: str
    leader: bool = False
    last_check: str = ""
    last_success: str = ""
    last_error: str = ""
    strategy: str = ""
    version: str = ""
    etag: str = ""
    checks: int = 0
    changes: int = 0
    refused: int = 0
    errors: int = 0
    skipped: int = 0
    failures: int = 0


class Syncer:
    """Brings new artifacts from `source` into `store` and promotes them."""

    def __init__(
        self,
        store: ArtifactStore,
        source: Source,
        *,
        verifier: Verifier | None = None,
        accept: Accept | None = None,
        interval_s: float = 60.0,
        keep: int = KEEP,
        clock: Clock | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if not MIN_INTERVAL_S <= interval_s <= MAX_INTERVAL_S:
            raise ValueError(f"interval_s is {interval_s}; it must lie in 5 to 300 seconds.")
        self._store = store
        self._source = source
        self._verifier = verifier or Verifier()
        self._accept = accept
        self._interval_s = interval_s
        self._keep = keep
        self._clock = clock or SystemClock()
        self._uniform = uniform
        self._lease = Lease(store.path / LEASE)
        self._refused: str | None = None
        self._status = SyncStatus(uri=source.uri)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Check now and then every interval, until `wait(seconds)` returns True (`threading.Event.wait` does)."""
        try:
            self.check()
            while not wait(self.delay_s()):
                self.check()
        finally:
            self.close()

    def check(self) -> bool:
        """One round. True if a new version was promoted; what goes wrong is put into the status."""
        self._status = replace(self._status, checks=self._status.checks + 1, last_check=self._now())
        try:
            if not self._lease.acquire():
                self._skip()
                return False
            promoted = self._round()
        except (ArtifactError, OSError) as error:
            self._failed(error)
            return False
        status = replace(self._status, leader=True, last_success=self._now(), failures=0)
        self._status = status if self._refused else replace(status, last_error="")
        return promoted

    def delay_s(self) -> float:
        """Seconds until the next round: the interval, doubled by each failure up to 300, give or take a fifth."""
        doubled = self._interval_s * 2.0 ** min(self._status.failures, 6)
        return min(doubled, MAX_INTERVAL_S) * self._uniform(1 - JITTER, 1 + JITTER)

    def status(self) -> dict[str, Any]:
        """What happened so far, as plain values; may be called from any thread."""
        return asdict(self._status)

    def close(self) -> None:
        """Let another process take over."""
        self._lease.release()
        self._status = replace(self._status, leader=False)

    def _round(self) -> bool:
        state = self._state()
        change = self._source.poll(state.get("etag"))
        if change is None or change.mark == self._refused:
            self._refused = None if change is None else self._refused
            self._show(state)
            return False
        try:
            manifest = self._bring(change)
        except _REFUSALS:
            self._refused = change.mark  # it will not get better: wait for another one
            raise
        self._refused = None
        promoted = self._promote(manifest)
        state = {
            "uri": self._source.uri,
            "etag": change.mark,
            "strategy": manifest.strategy,
            "version": manifest.version,
        }
        replace_file(self._store.path / STATE, json.dumps(state, indent=2).encode() + b"\n")
        shutil.rmtree(self._store.path / DOWNLOADS, ignore_errors=True)
        self._store.prune(keep=self._keep)
        self._show(state)
        return promoted

    def _bring(self, change: Change) -> Manifest:
        """Fetch into a folder of its own, which a later round finds again, and stage it."""
        downloads = self._store.path / DOWNLOADS
        name = hashlib.sha256(f"{self._source.uri}\n{change.mark}".encode()).hexdigest()[:16]
        for other in downloads.glob("*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)
        into = downloads / name
        try:
            self._source.fetch(change, into, check=self._checked)
            version = self._store.stage(into, verifier=self._verifier, accept=self._accept)
        except _REFUSALS:
            shutil.rmtree(into, ignore_errors=True)
            raise
        return parse((self._store.folder(version) / MANIFEST).read_bytes())

    def _checked(self, raw: bytes) -> Manifest:
        manifest = parse(raw)
        self._verifier.check(manifest)
        return manifest

    def _promote(self, manifest: Manifest) -> bool:
        activation = self._store.activation(manifest.strategy)
        if manifest.version == activation.version or manifest.version in activation.withdrawn:
            return False  # the operator rolled it back: only `promote` brings it again
        self._store.promote(manifest.strategy, manifest.version, verifier=self._verifier)
        self._status = replace(self._status, changes=self._status.changes + 1)
        return True

    def _state(self) -> dict[str, str]:
        """What an earlier round, maybe of another process, has left; nothing if the source is another by now."""
        try:
            state = strict_json.loads((self._store.path / STATE).read_bytes())
        except (OSError, ValueError):
            return {}  # nothing lost but one fetch
        if not isinstance(state, dict) or state.get("uri") != self._source.uri:
            return {}
        return {str(name): str(value) for name, value in state.items()}

    def _show(self, state: dict[str, str]) -> None:
        self._status = replace(
            self._status,
            strategy=state.get("strategy", ""),
            version=state.get("version", ""),
            etag=state.get("etag", ""),
        )

    def _skip(self) -> None:
        self._show(self._state())
        self._status = replace(self._status, leader=False, skipped=self._status.skipped + 1)

    def _failed(self, error: ArtifactError | OSError) -> None:
        status = self._status
        refused = isinstance(error, _REFUSALS)
        self._status = replace(
            status,
            leader=self._lease.held,
            last_error=f"{type(error).__name__}: {error}",
            refused=status.refused + refused,
            errors=status.errors + (not refused),
            failures=status.failures + 1,
        )

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
