"""From data to a served `model: auto` that demonstrably uses the artifact, and everything that may go wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from routeiq.simulator.sample import CHAT, cost_usd, prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    EASY,
    answered_by,
    assert_error,
    catalogue,
    chat,
    decision_of,
    get,
    log_lines,
    post,
)
from tests.support.processes import Gateway, SimulatorProcess, wait_until

TRAIN_ROWS = 1000
SERVED = 250
SINGLE = max(CHAT, key=lambda model: sum(model.is_right(text) for text in prompts(500, 7)))
"""The best single model on these prompts."""


def routeiq(*arguments: str | Path) -> str:
    """Run a command; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "routeiq", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(folder: Path, strategy: str, *, rows: int = TRAIN_ROWS, seed: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{strategy}-{rows}-{seed}.jsonl"
    routeiq("models", "sample", "--rows", str(rows), "--seed", str(seed), "--out", data)
    out = folder / f"{strategy}-{rows}-{seed}"
    routeiq("models", "train", "--strategy", strategy, "--data", data, "--out", out, "--quiet")
    return out


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the default learned strategy."""
    return train(tmp_path_factory.mktemp("hybrid"), "hybrid")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact of another strategy, for what does not depend on how good it is."""
    return train(tmp_path_factory.mktemp("cluster"), "cluster", rows=250)


@pytest.fixture(scope="module")
def cluster_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of it."""
    return train(tmp_path_factory.mktemp("again"), "cluster", rows=250, seed=2)


def version(artifact: Path) -> str:
    found: str = json.loads((artifact / "manifest.json").read_text())["version"]
    return found


def serving(
    start: StartGateway,
    simulator: SimulatorProcess,
    models: Path,
    *,
    workers: int = 1,
    env: dict[str, str] | None = None,
    **section: Any,
) -> Gateway:
    section.setdefault("learning", {"poll_s": 0.1})
    return start(
        {"model_list": catalogue(simulator.url), "routeiq": section},
        workers=workers,
        env={"ROUTEIQ_MODELS_PATH": str(models), **(env or {})},
    )


def placed(models: Path, artifact: Path, name: str) -> Path:
    """An artifact as `routeiq models train --out` would have written it there."""
    shutil.copytree(artifact, models / name)
    return models


def test_auto_serves_the_trained_artifact_at_the_best_singles_quality_for_much_less(
    start: StartGateway, simulator: SimulatorProcess, hybrid: Path, tmp_path: Path
) -> None:
    gateway = serving(start, simulator, placed(tmp_path, hybrid, "hybrid"))
    right, spent, single_right, single_spent, used = 0, 0.0, 0, 0.0, set()
    for text in prompts(SERVED, 99):
        answer = chat(gateway, "auto", text)
        used.add(answered_by(answer))
        assert answer.headers["x-routeiq-strategy"] == "hybrid"
        assert version(hybrid)[:12] in answer.headers["x-routeiq-reason"]
        right += answer.json()["choices"][0]["message"]["content"].startswith("Right")
        spent += float(answer.headers["x-routeiq-cost-usd"])
        single_right += SINGLE.is_right(text)
        single_spent += cost_usd(SINGLE, text)
    assert right >= single_right
    assert spent <= 0.6 * single_spent
    assert len(used) >= 2
    report = get(gateway, "/routeiq/v1/strategies").json()
    assert report["active"] == "hybrid"
    assert report["reports"]["hybrid"]["artifact"] == version(hybrid)


def test_without_an_artifact_auto_uses_the_prior(
    start: StartGateway, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    gateway = serving(start, simulator, tmp_path)
    assert chat(gateway, "auto", EASY).headers["x-routeiq-strategy"] == "prior"


def test_the_record_has_the_scores_of_the_artifact(
    start: StartGateway, simulator: SimulatorProcess, hybrid: Path, tmp_path: Path
) -> None:
    gateway = serving(start, simulator, placed(tmp_path / "models", hybrid, "hybrid"))
    text = next(prompts(1, 5))
    record = decision_of(gateway, chat(gateway, "auto", text))
    data, out = tmp_path / "data.jsonl", tmp_path / "scores.jsonl"
    data.write_text(json.dumps({"id": "a", "route_text": text}) + "\n")
    routeiq("models", "score", "--artifact", hybrid, "--data", data, "--out", out)
    scores = json.loads(out.read_text())["scores"]
    served = {one["model"]: one["score"] for one in record["candidates"]}
    assert served == pytest.approx(scores, abs=1e-4)


def test_a_promoted_version_is_taken_under_load_by_every_worker_without_a_failed_request(
    start: StartGateway,
    simulator: SimulatorProcess,
    cluster: Path,
    cluster_again: Path,
    tmp_path: Path,
) -> None:
    placed(tmp_path / "incoming", cluster, "one")
    placed(tmp_path / "incoming", cluster_again, "two")
    gateway = serving(start, simulator, tmp_path, workers=2, strategy="cluster")
    statuses: list[int] = []
    reasons: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answer = chat(gateway, "auto", EASY)
            statuses.append(answer.status)
            reasons.append(answer.headers.get("x-routeiq-reason", ""))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        first = activated(gateway, "incoming/one")
        wait_until(lambda: all_say(reasons, first), "every worker serves the first version")
        second = activated(gateway, "incoming/two")
        wait_until(lambda: all_say(reasons, second), "every worker serves the second version")
        back = post(gateway, "/routeiq/v1/artifacts/rollback", {"strategy": "cluster"})
        assert back.status == 200
        wait_until(lambda: all_say(reasons, first), "every worker went back")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    states = {one["version"]: one["state"] for one in listing(gateway)["data"]}
    assert states[first] == "active"


def activated(gateway: Gateway, folder: str) -> str:
    staged = post(gateway, "/routeiq/v1/artifacts/stage", {"folder": folder})
    assert staged.status == 201, staged.body
    found: str = staged.json()["version"]
    body = {"strategy": "cluster", "version": found}
    assert post(gateway, "/routeiq/v1/artifacts/promote", body).status == 200
    return found


def all_say(reasons: Sequence[str], version: str) -> bool:
    last = list(reasons[-30:])
    return len(last) == 30 and all(version[:12] in reason for reason in last)


def listing(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = get(gateway, "/routeiq/v1/artifacts").json()
    return found


def test_a_tampered_artifact_is_refused_and_the_old_one_stays(
    start: StartGateway,
    simulator: SimulatorProcess,
    cluster: Path,
    cluster_again: Path,
    tmp_path: Path,
) -> None:
    placed(tmp_path, cluster, "cluster")
    bad = placed(tmp_path / "incoming", cluster_again, "bad") / "bad" / "weights.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1] + bytes([bad.read_bytes()[-1] ^ 1]))
    gateway = serving(start, simulator, tmp_path, strategy="cluster")
    refused = post(gateway, "/routeiq/v1/artifacts/stage", {"folder": "incoming/bad"})
    assert_error(refused, 400, says="weights.safetensors")
    shutil.rmtree(tmp_path / "cluster")
    (tmp_path / "incoming" / "bad").rename(tmp_path / "cluster")
    wait_until(lambda: bool(listing(gateway)["status"]["error"]), "the bad artifact was seen")
    assert version(cluster)[:12] in chat(gateway, "auto", EASY).headers["x-routeiq-reason"]
    assert any("artifact refused" in str(line.get("message")) for line in log_lines(gateway))


@pytest.mark.parametrize("folder", ["../outside", "/etc", "nothing-here"])
def test_only_artifacts_in_the_models_folder_can_be_staged(
    start: StartGateway, simulator: SimulatorProcess, tmp_path: Path, folder: str
) -> None:
    gateway = serving(start, simulator, tmp_path / "models")
    assert_error(post(gateway, "/routeiq/v1/artifacts/stage", {"folder": folder}), 400)


SECRET = "5a" * 32


@pytest.mark.parametrize("signed", [True, False])
def test_with_a_key_only_signed_artifacts_are_served(
    start: StartGateway, simulator: SimulatorProcess, cluster: Path, tmp_path: Path, signed: bool
) -> None:
    models = placed(tmp_path, cluster, "cluster")
    if signed:
        routeiq("models", "sign", models / "cluster", "--hmac-key", SECRET)
    gateway = serving(
        start, simulator, models, strategy="cluster", env={"ROUTEIQ_ARTIFACT_HMAC_KEY": SECRET}
    )
    reason = chat(gateway, "auto", EASY).headers["x-routeiq-reason"]
    assert ("predicted by artifact" in reason) is signed
    assert ("not signed" in reason) is not signed
    assert SECRET not in get(gateway, "/routeiq/v1/config").body.decode()


def test_an_artifact_is_fetched_from_where_the_setting_points(
    start: StartGateway, simulator: SimulatorProcess, cluster: Path, tmp_path: Path
) -> None:
    gateway = serving(
        start,
        simulator,
        tmp_path / "models",
        workers=2,
        strategy="cluster",
        env={"ROUTEIQ_MODEL_S3_URI": f"file://{cluster}", "ROUTEIQ_MODEL_SYNC_INTERVAL": "5"},
    )

    def served() -> bool:
        reason = chat(gateway, "auto", EASY).headers["x-routeiq-reason"]
        return version(cluster)[:12] in reason

    wait_until(lambda: all(served() for _ in range(6)), "both workers serve it", 20.0)


def test_a_named_artifact_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "model_list: [{model_name: a, litellm_params: {model: openai/a, api_key: sk-a}}]\n"
        "routeiq: {strategy: {name: cluster, options: {artifact: /no/such/folder}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "routeiq", "serve", "-c", config, "--host", "127.0.0.1"],
        env={"LITELLM_MASTER_KEY": "sk-a", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "/no/such/folder" in done.stderr
