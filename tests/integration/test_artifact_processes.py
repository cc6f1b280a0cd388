"""The artifact store with several processes, some of which are killed at the worst moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.artifacts.manifest import Manifest
from routeiq.artifacts.signature import HmacKey, Verifier
from routeiq.artifacts.sources import source_from
from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
from tests.support.cloud import Cloud

KEY = HmacKey(bytes(32))
TRUSTING = Verifier(keys=(KEY,), required=True)
BIG = 600_000  # float32 values: 2.4 MB of weights, several chunks


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


def made(folder: Path, seed: int = 0, size: int = BIG) -> Manifest:
    draft = Draft(
        strategy="knn",
        features="static:1",
        models=("small", "large"),
        arrays={"w": np.random.default_rng(seed).random(size, np.float32)},
        files={"card.md": b"# Card\n", "plots/a.svg": b"<svg/>"},
    )
    return write_artifact(folder, draft, signer=KEY)


def weights(cloud: Cloud) -> list[dict[str, str]]:
    return [r for r in cloud.requests if r["method"] == "GET" and "weights" in r["key"]]


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python code in a process of its own; it says `ready` when it begins what matters."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(how)
    process.wait(20)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


STAGE = """
import sys
from pathlib import Path
from routeiq.artifacts.store import ArtifactStore
store, keep, folders = ArtifactStore(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3:]
print("ready", flush=True)
while True:
    for folder in folders:
        store.promote("knn", store.stage(Path(folder)))
        store.prune(keep=keep)
"""


def test_a_process_killed_while_it_stages_and_promotes_leaves_a_good_store(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folders = [tmp_path / f"made{seed}" for seed in range(5)]
    for seed, folder in enumerate(folders):
        made(folder, seed)
    store.promote("knn", store.stage(folders[0]))
    for attempt in range(8):
        process = run(STAGE, store.path, 0, *folders)
        assert ready(process) == "ready"
        time.sleep(0.01 + 0.037 * attempt)
        end(process)
        active = store.active("knn")
        assert active is not None
        assert open_artifact(active, verifier=TRUSTING).signature == "verified"
        assert not [line for line in store.listing() if line.state == "damaged"]
    version = store.stage(folders[3])
    assert store.promote("knn", version).version == version
    assert not list((store.path / "versions").glob(".*")), "the next writer cleans up"


def test_several_processes_write_and_readers_always_find_a_good_one(
    store: ArtifactStore, tmp_path: Path
) -> None:
    folders = [tmp_path / f"made{seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        made(folder, seed, size=1000)
    store.promote("knn", store.stage(folders[0]))
    writers = [run(STAGE, store.path, 3, *folders[turn:], *folders[:turn]) for turn in range(3)]
    try:
        assert [ready(writer) for writer in writers] == ["ready"] * 3
        seen = set()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            active = store.active("knn")
            assert active is not None
            seen.add(open_artifact(active, verifier=TRUSTING).manifest.version)
        assert len(seen) == 3
        assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            end(writer)


SYNC = """
import sys
from pathlib import Path
from routeiq.artifacts.sources import source_from
from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
source = source_from("gs://bucket/team/knn", environ={"STORAGE_EMULATOR_HOST": sys.argv[2]})
syncer = Syncer(ArtifactStore(Path(sys.argv[1])), source)
print("ready", flush=True)
syncer.check()
print(syncer.status(), flush=True)
sys.stdin.read()
"""


def test_another_process_takes_over_a_half_finished_download(
    cloud: Cloud, store: ArtifactStore, tmp_path: Path
) -> None:
    first = made(tmp_path / "a")
    cloud.publish(tmp_path / "a", "team/knn")
    cut, gate = threading.Event(), threading.Event()

    def hold() -> None:
        cut.set()
        gate.wait(20)

    cloud.cuts, cloud.after_cut = [1_500_000], hold
    process = run(SYNC, store.path, cloud.url)
    assert ready(process) == "ready"
    assert cut.wait(20)
    environ = {"STORAGE_EMULATOR_HOST": cloud.url}
    other = Syncer(store, source_from("gs://bucket/team/knn", environ=environ))
    assert not other.check()
    assert other.status()["skipped"] == 1, "it does not wait for the one that is fetching"
    parts = store.path / "downloads"
    until = time.monotonic() + 10
    while not any(p.stat().st_size >= 1_000_000 for p in parts.rglob("*.part")):
        assert time.monotonic() < until
        time.sleep(0.01)
    end(process)
    cloud.cuts, cloud.after_cut = [], None
    gate.set()
    before = len(weights(cloud))
    assert other.check(), other.status()
    assert store.active("knn") == store.folder(first.version)
    resumed = weights(cloud)[before:]
    assert len(resumed) == 1
    assert int(resumed[0]["range"][6:-1]) >= 1_000_000


MAP = """
import sys
from pathlib import Path
from routeiq.artifacts.artifact import open_artifact
artifact = open_artifact(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def shared_kb(pid: int, name: str) -> tuple[float, float]:
    """Rss and Pss of the mapping of a file, in kB."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    block = text[text.index(name) :].split("VmFlags")[0]
    found = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", block, re.MULTILINE))
    return float(found["Rss"]), float(found["Pss"])


def test_processes_share_the_pages_of_the_weights(tmp_path: Path) -> None:
    made(tmp_path / "a")
    processes = [run(MAP, tmp_path / "a") for _ in range(4)]
    try:
        assert [ready(process) for process in processes] == ["ready"] * 4
        for process in processes:
            rss, pss = shared_kb(process.pid, str(tmp_path / "a" / "weights.safetensors"))
            assert rss >= BIG * 4 / 1024
            assert pss <= rss / 4 + 8
    finally:
        for process in processes:
            end(process)
