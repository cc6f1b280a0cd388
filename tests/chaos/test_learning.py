"""Learned strategies under killed workers, full disks, damaged files: what was served goes on being served."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import (
    AUTH,
    Load,
    admin,
    alive,
    ask,
    children,
    complaints,
    configure,
    place,
    wait_idle,
)
from tests.support.http import Answer, call
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

pytestmark = pytest.mark.timeout(120)
MODELS = ("sim-nano", "sim-small", "sim-medium", "sim-large")
TEXT = "Explain and compare the history of rivers and kings"


def routeiq(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "routeiq", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two versions of one strategy."""
    folder = tmp_path_factory.mktemp("artifacts")
    for name, seed in (("one", "1"), ("two", "2")):
        data = folder / f"{name}.jsonl"
        routeiq("models", "sample", "--rows", "120", "--seed", seed, "--out", data)
        train = ("models", "train", "--strategy", "knn", "--quiet", "--data", data)
        routeiq(*train, "--out", folder / name)
    return folder / "one", folder / "two"


def version(artifact: Path) -> str:
    found: str = json.loads((artifact / "manifest.json").read_text())["version"]
    return found


@contextmanager
def learned(
    folder: Path, sim: SimulatorProcess, artifact: Path | None, *, workers: int = 1, **learning: Any
) -> Iterator[Gateway]:
    """A gateway whose group `auto` is routed by `knn`; artifacts are in `folder`/models, both in incoming/."""
    models = folder / "models"
    models.mkdir()
    if artifact is not None:
        shutil.copytree(artifact, models / "knn")
    section = {
        "strategy": "knn",
        "learning": {"poll_s": 0.1, "time_budget_ms": 1000.0, **learning},
    }
    places = [place(name, sim.url, name, group=name) for name in MODELS]
    path = configure(folder, sim, *places, routeiq=section)
    env = {"ROUTEIQ_MODELS_PATH": str(models)}
    with start_gateway(path, workers=workers, env=env) as gateway:
        yield gateway


def post(gateway: Gateway, path: str, **body: Any) -> Answer:
    return call(f"{gateway.url}/routeiq/v1/{path}", body, headers=AUTH)


def reason(gateway: Gateway) -> str:
    answer = ask(gateway, TEXT, model="auto")
    assert answer.status == 200, answer.body
    return answer.headers["x-routeiq-reason"]


def all_serve(gateway: Gateway, artifact: Path, times: int = 12) -> bool:
    return all(version(artifact)[:12] in reason(gateway) for _ in range(times))


class Auto(Load):
    """Load on `auto`."""

    def _run(self, client: int) -> None:
        number = 0
        while not self._stop.is_set() and self.gateway.running():
            number += 1
            text = f"{TEXT} {client}-{number}"
            try:
                answer = ask(self.gateway, text, model="auto")
            except OSError as error:
                self.outcomes[text] = ("lost", repr(error))
                continue
            self.answers[text] = answer
            self.outcomes[text] = self._judge(answer)


def test_workers_killed_while_versions_are_promoted_lose_nothing_but_their_own(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    one, two = artifacts
    with learned(tmp_path, sim, one, workers=3) as gateway:
        models = tmp_path / "models"
        for artifact in artifacts:
            routeiq("models", "stage", artifact, "--store", models)
        load = Auto(gateway, clients=4, fresh=True, stream=False)
        wait_until(lambda: load.count("ok") >= 20, "the load runs")
        promoted = 0
        for turn in range(6):
            victim = children(gateway.pid)[turn % 3]
            try:
                answer = post(
                    gateway,
                    "artifacts/promote",
                    strategy="knn",
                    version=version(artifacts[turn % 2]),
                )
                promoted += answer.status == 200
            except OSError:  # it was on the worker that died
                pass
            os.kill(victim, signal.SIGKILL)
            # A killed worker stays among the children until it is reaped: it must not be counted,
            # nor be the next turn's victim.
            wait_until(
                lambda gone=victim: (
                    len(set(children(gateway.pid)) - {gone}) == 3  # type: ignore[misc]
                    and not alive(gone)
                    and gone not in children(gateway.pid)
                ),
                "it is restarted",
                20.0,
            )
        assert promoted >= 3
        routeiq("models", "promote", version(two), "--store", models)
        wait_until(lambda: all_serve(gateway, two), "every worker serves what was promoted", 20.0)
        before = load.count("ok")
        wait_until(lambda: load.count("ok") >= before + 20, "the load goes on")
        load.stop()
        assert load.count("refused") == 0, load.outcomes
        assert load.count("lost") <= 4 * 6  # each client the one request that was on the victim
        served = {answer.headers["x-routeiq-strategy"] for answer in load.answers.values()}
        assert served == {"knn"}
        assert not [line for line in complaints(gateway) if "artifact" in line]


def test_a_promotion_that_is_killed_leaves_a_store_that_works(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    one, two = artifacts
    with learned(tmp_path, sim, one) as gateway:
        models = tmp_path / "models"
        for _ in range(5):
            command = [sys.executable, "-m", "routeiq", "models", "stage", str(two)]
            command += ["--store", str(models)]
            writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(
                lambda w=writer: w.poll() is not None or any(models.glob("versions/.*")),  # type: ignore[misc]
                "it has begun or ended",
                30.0,
            )
            writer.kill()
            writer.wait()
        assert all_serve(gateway, one, 3)
        assert post(gateway, "artifacts/stage", folder="knn").status == 201
        routeiq("models", "stage", two, "--store", models)
        answer = post(gateway, "artifacts/promote", strategy="knn", version=version(two))
        assert answer.status == 200, answer.body
        wait_until(lambda: all_serve(gateway, two, 3), "it is served")
        assert not list(models.glob("versions/.*"))


def limit_files(gateway: Gateway, size: int) -> None:
    """No worker may write a file beyond `size` bytes: a disk that is full."""
    for pid in children(gateway.pid) or [gateway.pid]:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_refuses_what_would_be_stored_and_serves_on(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    one, two = artifacts
    with learned(tmp_path, sim, one) as gateway:
        models = tmp_path / "models"
        shutil.copytree(two, models / "incoming")
        limit_files(gateway, 1)
        refused = post(gateway, "artifacts/stage", folder="incoming")
        assert 400 <= refused.status < 600, refused.body
        assert b"Traceback" not in refused.body
        assert "written" in refused.json()["error"]["message"]
        assert all_serve(gateway, one, 3)
        assert not (models / "versions" / version(two)).exists()
        assert not list(models.glob("versions/.*"))
        limit_files(gateway, resource.RLIM_INFINITY)
        staged = post(gateway, "artifacts/stage", folder="incoming")
        assert staged.status == 201, staged.body
        limit_files(gateway, 1)
        refused = post(gateway, "artifacts/promote", strategy="knn", version=version(two))
        assert 400 <= refused.status < 600
        assert not (models / "active.json").exists()
        assert all_serve(gateway, one, 3)
        limit_files(gateway, resource.RLIM_INFINITY)
        promoted = post(gateway, "artifacts/promote", strategy="knn", version=version(two))
        assert promoted.status == 200, promoted.body
        wait_until(lambda: all_serve(gateway, two, 3), "it is served once the disk has room")


def test_a_models_folder_that_goes_away_changes_nothing_that_is_served(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    one, two = artifacts
    models, aside = tmp_path / "models", tmp_path / "aside"
    with learned(tmp_path, sim, one) as gateway:
        models.rename(aside)
        models.write_text("a file is in the way")
        refused = post(gateway, "artifacts/stage", folder="knn")
        assert 400 <= refused.status < 600
        wait_until(lambda: admin(gateway, "status")["in_flight"] >= 0, "it answers")
        assert all_serve(gateway, one, 5)
        assert call(f"{gateway.url}/_health/ready").status == 200
        models.unlink()
        aside.rename(models)
        routeiq("models", "stage", two, "--store", models)
        routeiq("models", "promote", version(two), "--store", models)
        wait_until(lambda: all_serve(gateway, two, 3), "the folder is back, so is its news")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\x00" * 64, b"[]", b'{"schema": 99}', b'{"schema": 1, "strategies": 7}']
)
def test_a_damaged_activation_file_is_named_and_the_old_one_stays(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path], damage: bytes
) -> None:
    one, two = artifacts
    with learned(tmp_path, sim, None, workers=2) as gateway:
        models = tmp_path / "models"
        for artifact in artifacts:
            routeiq("models", "stage", artifact, "--store", models)
        routeiq("models", "promote", version(one), "--store", models)
        wait_until(lambda: all_serve(gateway, one), "both workers serve the first")
        good = (models / "active.json").read_bytes()
        (models / "active.json").write_bytes(damage)

        def named() -> bool:
            return all("active.json" in str(status(gateway)["error"]) for _ in range(8))

        wait_until(named, "both workers say what is wrong", 20.0)
        assert all_serve(gateway, one)
        refused = post(gateway, "artifacts/promote", strategy="knn", version=version(two))
        assert refused.status == 400
        assert "active.json" in refused.json()["error"]["message"]
        (models / "active.json").write_bytes(good)
        routeiq("models", "promote", version(two), "--store", models)
        wait_until(lambda: all_serve(gateway, two), "both workers go on with what is right", 20.0)
        wait_until(lambda: status(gateway)["error"] is None, "nothing is wrong any more")


def status(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = admin(gateway, "status")["learning"]
    return found


def test_a_gateway_starts_with_a_damaged_activation_file(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    (tmp_path / "rest").mkdir()
    with learned(tmp_path / "rest", sim, None) as first:
        models = tmp_path / "rest" / "models"
        assert "prior" in reason(first)
        first.terminate()
        assert first.wait() == 0
        (models / "active.json").write_text("{")
        config = tmp_path / "rest" / "config.yaml"
        with start_gateway(config, env={"ROUTEIQ_MODELS_PATH": str(models)}) as second:
            assert "active.json" in reason(second)
            (models / "active.json").unlink()
            routeiq("models", "stage", artifacts[0], "--store", models)
            routeiq("models", "promote", version(artifacts[0]), "--store", models)
            wait_until(lambda: all_serve(second, artifacts[0], 2), "it takes what is right")


GARBAGE = (
    b"\n\n\x00\xff\xfe garbage \n{\n[]\nnull\n17\n",
    b'{"kind": "feedback"}\n{"kind": "feedback", "decision_id": null, "score": 1}\n',
    b'{"decision_id": "ID", "score": "high"}\n{"decision_id": "ID", "score": 7, "admin": true}\n',
    b'{"decision_id": "ID", "score": NaN}\n{"decision_id": ["ID"], "score": 0.5, "admin": true}\n',
    b'{"decision_id": "ID", "score": 0.5, "key": "nobody"}\n',
    b"x" * 300_000 + b"\n",
    b'{"kind": "feedback", "decision_id": "ID", "sco',
)


def test_garbage_in_the_feedback_file_is_passed_over(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    log = tmp_path / "log"
    with learned(tmp_path, sim, artifacts[0], decision_log=str(log)) as gateway:
        file = log / "feedback.jsonl"
        for number, garbage in enumerate(GARBAGE, 1):
            ids = [ask(gateway, TEXT, model="auto").headers["x-routeiq-decision-id"] for _ in "ab"]
            log.mkdir(exist_ok=True)
            with open(file, "ab") as raw:
                raw.write(garbage.replace(b"ID", ids[0].encode()))
            for one in ids:
                given = post(gateway, "feedback", decision_id=one, score=0.25)
                assert given.status == 202, given.body
            wait_until(
                lambda n=number: status(gateway)["feedback_learned"] == 2 * n,  # type: ignore[misc]
                f"feedback after {garbage[:60]!r} was learned",
            )
            for one in ids:
                assert admin(gateway, f"decisions/{one}")["feedback"] == 0.25
        assert not complaints(gateway)


def test_a_feedback_file_that_is_cut_or_removed_is_read_from_its_new_start(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    log = tmp_path / "log"
    with learned(tmp_path, sim, artifacts[0], decision_log=str(log)) as gateway:
        file = log / "feedback.jsonl"
        learned_before = 0

        def cut() -> None:
            os.truncate(file, 0)

        # Each time fewer lines: a file that is as long as before by the next look cannot be told from it.
        for count, damage in ((3, None), (2, cut), (1, file.unlink)):
            if damage is not None:
                damage()
            answers = [ask(gateway, TEXT, model="auto") for _ in range(count)]
            ids = [answer.headers["x-routeiq-decision-id"] for answer in answers]
            for one in ids:
                assert post(gateway, "feedback", decision_id=one, score=1).status == 202
            learned_before += len(ids)
            wait_until(
                lambda n=learned_before: status(gateway)["feedback_learned"] == n,  # type: ignore[misc]
                "all feedback was learned, none of it twice",
            )
        assert not complaints(gateway)


def test_feedback_that_does_not_fit_is_refused_and_takes_no_other_with_it(
    tmp_path: Path, sim: SimulatorProcess, artifacts: tuple[Path, Path]
) -> None:
    log = tmp_path / "log"
    with learned(tmp_path, sim, artifacts[0], decision_log=str(log)) as gateway:
        ids = [ask(gateway, TEXT, model="auto").headers["x-routeiq-decision-id"] for _ in "abcd"]
        assert post(gateway, "feedback", decision_id=ids[0], score=1).status == 202
        size = (log / "feedback.jsonl").stat().st_size
        limit_files(gateway, size + 20)  # a part of the next line fits
        for one in ids[1:3]:
            assert post(gateway, "feedback", decision_id=one, score=1).status == 503
        assert ask(gateway, TEXT, model="auto").status == 200
        limit_files(gateway, resource.RLIM_INFINITY)
        assert post(gateway, "feedback", decision_id=ids[3], score=1).status == 202
        wait_until(lambda: status(gateway)["feedback_learned"] == 2, "what was stored is learned")


def test_clients_that_leave_while_a_judge_hangs_leave_nothing_behind(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    strategy = {"name": "judge", "options": {"model": "sim-nano", "timeout_s": 20}}
    section = {"strategy": strategy, "learning": {"prepare_timeout_ms": 20_000}}
    places = [place(name, sim.url, name, group=name) for name in MODELS]
    with start_gateway(configure(tmp_path, sim, *places, routeiq=section)) as gateway:
        sim.behave("hang", "sim-nano")
        for number in range(5):
            with pytest.raises(TimeoutError):
                ask(gateway, f"{TEXT} {number}", model="auto", timeout=0.3)
        wait_idle(gateway)
        sim.mend()
        assert ask(gateway, "And again.", model="auto").status == 200
        assert not complaints(gateway)
