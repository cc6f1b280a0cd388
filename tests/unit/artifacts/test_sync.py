from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from routeiq.artifacts.artifact import Artifact
from routeiq.artifacts.errors import MismatchedArtifact, SourceError
from routeiq.artifacts.manifest import parse
from routeiq.artifacts.signature import HmacKey, Verifier
from routeiq.artifacts.sources import Change, source_from
from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
from tests.support.clock import FakeClock
from tests.unit.artifacts.conftest import Make

KEY = HmacKey(bytes(32))
TRUSTING = Verifier(keys=(KEY,), required=True)


class Counted:
    """A folder as a source that counts what is asked of it and can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self._source = source_from(str(folder))
        self.uri = self._source.uri
        self.polls: list[str | None] = []
        self.fetches = 0
        self.fails: Exception | None = None

    def poll(self, known: str | None) -> Change | None:
        self.polls.append(known)
        if self.fails is not None:
            raise self.fails
        return self._source.poll(known)

    def fetch(self, change: Change, into: Path, *, check: Any = parse) -> None:
        self.fetches += 1
        self._source.fetch(change, into, check=check)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "remote"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


@pytest.fixture
def source(place: Path) -> Counted:
    return Counted(place)


@pytest.fixture
def syncer(store: ArtifactStore, source: Counted) -> Syncer:
    return Syncer(store, source, clock=FakeClock(), uniform=lambda low, high: (low + high) / 2)


def test_a_new_artifact_is_promoted_once(
    make: Make, place: Path, store: ArtifactStore, source: Counted, syncer: Syncer
) -> None:
    made = make(place)
    assert syncer.check()
    assert store.active("knn") == store.folder(made.version)
    assert not syncer.check()
    assert source.fetches == 1
    assert source.polls[0] is None
    assert source.polls[1] is not None
    again = make(place, seed=1)
    assert syncer.check()
    assert store.active("knn") == store.folder(again.version)
    status = syncer.status()
    assert status["version"] == again.version
    assert status["strategy"] == "knn"
    assert status["etag"] == json.loads((store.path / "sync.json").read_bytes())["etag"]
    assert status["last_check"] == status["last_success"] == "2027-01-15T08:00:00Z"
    counts = {k: status[k] for k in ("checks", "changes", "refused", "errors", "skipped")}
    assert counts == {"checks": 3, "changes": 2, "refused": 0, "errors": 0, "skipped": 0}
    assert status["leader"] is True
    assert not (store.path / "downloads").exists()


def unsigned(make: Make, place: Path) -> None:
    make(place, seed=2)


def wrongly_signed(make: Make, place: Path) -> None:
    make(place, seed=2, signer=HmacKey(bytes(31) + b"1"))


def edited(make: Make, place: Path) -> None:
    make(place, seed=2, signer=KEY)
    path = place / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"k": 5', b'"k": 6'))


def tampered(make: Make, place: Path) -> None:
    make(place, seed=2, signer=KEY)
    path = place / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")


def truncated(make: Make, place: Path) -> None:
    make(place, seed=2, signer=KEY)
    path = place / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def incomplete(make: Make, place: Path) -> None:
    make(place, seed=2, signer=KEY)
    (place / "card.md").unlink()


def mismatched(make: Make, place: Path) -> None:
    make(place, seed=2, signer=KEY, features="minilm:9")


def gone(make: Make, place: Path) -> None:
    shutil.rmtree(place)


@pytest.mark.parametrize(
    ("spoil", "says", "counter"),
    [
        (unsigned, "SignatureRefused: the artifact is not signed", "refused"),
        (wrongly_signed, "SignatureRefused: the artifact is signed by .* not trusted", "refused"),
        (edited, "InvalidArtifact: manifest.json was changed", "refused"),
        (mismatched, "MismatchedArtifact: made for minilm:9", "refused"),
        (tampered, "SourceChanged: .*weights.safetensors is not the file", "errors"),
        (truncated, "SourceChanged: .*were announced", "errors"),
        (incomplete, "SourceError: .*card.md cannot be read", "errors"),
        (gone, "SourceError: .*manifest.json cannot be read", "errors"),
    ],
)
def test_a_bad_artifact_keeps_the_old_one_and_says_why(
    make: Make,
    place: Path,
    store: ArtifactStore,
    source: Counted,
    spoil: Any,
    says: str,
    counter: str,
) -> None:
    def accept(artifact: Artifact) -> None:
        if artifact.manifest.features != "static:1":
            raise MismatchedArtifact(f"made for {artifact.manifest.features}")

    syncer = Syncer(store, source, verifier=TRUSTING, accept=accept, clock=FakeClock())
    good = make(place, signer=KEY)
    assert syncer.check()
    spoil(make, place)
    for round_ in (1, 2):
        assert not syncer.check()
        status = syncer.status()
        assert re.search(says, status["last_error"]), status["last_error"]
        assert status[counter] == (1 if counter == "refused" else round_)
        assert status["version"] == good.version
        assert store.active("knn") == store.folder(good.version)
        assert len(store.listing()) == 1
    if counter == "refused":
        assert source.fetches == 2, "what will not get better is not fetched again"
    shutil.rmtree(place, ignore_errors=True)
    healed = make(place, seed=3, signer=KEY)
    assert syncer.check()
    assert syncer.status()["last_error"] == ""
    assert store.active("knn") == store.folder(healed.version)


def test_an_error_goes_away_with_the_next_good_round(
    make: Make, place: Path, source: Counted, syncer: Syncer
) -> None:
    make(place)
    syncer.check()
    source.fails = SourceError("no route to host")
    assert not syncer.check()
    assert syncer.status()["last_error"] == "SourceError: no route to host"
    assert syncer.status()["failures"] == 1
    source.fails = None
    assert not syncer.check()
    assert syncer.status()["last_error"] == ""
    assert syncer.status()["failures"] == 0


def test_after_a_restart_nothing_is_fetched_again(
    make: Make, place: Path, store: ArtifactStore, source: Counted, syncer: Syncer
) -> None:
    made = make(place)
    syncer.check()
    syncer.close()
    later = Syncer(store, source, clock=FakeClock())
    assert not later.check()
    assert source.fetches == 1
    assert later.status()["version"] == made.version
    later.close()
    (store.path / "sync.json").write_text("damaged")
    last = Syncer(store, source, clock=FakeClock())
    assert not last.check(), "fetched again, but active already"
    assert source.fetches == 2


def test_what_was_rolled_back_is_not_promoted_again(
    make: Make, place: Path, store: ArtifactStore, syncer: Syncer
) -> None:
    one = make(place)
    syncer.check()
    make(place, seed=1)
    syncer.check()
    store.rollback("knn")
    (store.path / "sync.json").unlink()
    assert not syncer.check()
    assert store.active("knn") == store.folder(one.version)


def test_only_one_process_syncs_and_the_others_do_not_wait(
    make: Make, place: Path, store: ArtifactStore, source: Counted, syncer: Syncer
) -> None:
    made = make(place)
    syncer.check()
    other = Syncer(store, source, clock=FakeClock())
    polls = len(source.polls)
    assert not other.check()
    assert len(source.polls) == polls
    status = other.status()
    assert (status["skipped"], status["leader"], status["version"]) == (1, False, made.version)
    syncer.close()
    assert not other.check()
    assert other.status()["leader"] is True
    assert syncer.status()["leader"] is False


def test_old_versions_are_pruned(
    make: Make, place: Path, store: ArtifactStore, source: Counted
) -> None:
    syncer = Syncer(store, source, keep=0, clock=FakeClock())
    for seed in range(6):
        make(place, seed=seed)
        assert syncer.check()
    assert sorted(line.state for line in store.listing()) == ["active"] + ["previous"] * 3


def test_run_checks_at_once_backs_off_and_ends_when_told(
    make: Make, place: Path, source: Counted, syncer: Syncer
) -> None:
    make(place)
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        source.fails = SourceError("down") if 1 <= len(waits) < 5 else None
        return len(waits) == 6

    syncer.run(wait)
    assert waits == [60, 120, 240, 300, 300, 60]
    assert syncer.status()["checks"] == 6
    assert syncer.status()["leader"] is False


def test_the_delay_is_jittered_and_the_interval_bounded(
    store: ArtifactStore, source: Counted
) -> None:
    low = Syncer(store, source, interval_s=5, uniform=lambda low, _: low)
    high = Syncer(store, source, interval_s=300, uniform=lambda _, high: high)
    assert (low.delay_s(), high.delay_s()) == (4.0, 360.0)
    for wrong in (4.9, 301):
        with pytest.raises(ValueError, match="5 to 300"):
            Syncer(store, source, interval_s=wrong)


def test_a_store_that_cannot_be_written_is_a_status_not_a_crash(
    make: Make, place: Path, source: Counted, tmp_path: Path
) -> None:
    make(place)
    (tmp_path / "file").write_text("")
    syncer = Syncer(ArtifactStore(tmp_path / "file"), source, clock=FakeClock())
    assert not syncer.check()
    assert "file" in syncer.status()["last_error"]
