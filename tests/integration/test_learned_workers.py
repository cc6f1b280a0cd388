"""However many workers serve a learned strategy, the same prompt has the same scores."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from routeiq.simulator.sample import prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import KEY, user
from tests.integration.learned import placed, routeiq, sample, serving, train, version
from tests.support.processes import Gateway, SimulatorProcess, wait_until

TEXTS = tuple(prompts(6, 11))
Scores = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hybrid")
    return train(folder / "hybrid", "hybrid", sample(folder / "data.jsonl", 200, 1))


def asked(connection: http.client.HTTPConnection, path: str, body: Any = None) -> dict[str, Any]:
    """JSON over a connection that stays, and so at one worker."""
    raw = None if body is None else json.dumps(body)
    connection.request("GET" if raw is None else "POST", path, raw, KEY)
    response = connection.getresponse()
    found: dict[str, Any] = json.loads(response.read())
    assert response.status == 200, found
    return found


def seen(gateway: Gateway) -> tuple[int, str, Scores]:
    """One worker's id, the artifact it serves, and its scores for each text."""
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=30.0)
    try:
        worker = asked(connection, "/routeiq/v1/status")["worker_id"]
        scores = {}
        for text in TEXTS:
            body = {"model": "auto", "messages": [user(text)]}
            found = asked(connection, "/routeiq/v1/route", body)
            assert found["strategy"] == "hybrid"
            scores[text] = {one["model"]: one["score"] for one in found["candidates"]}
        said = asked(connection, "/routeiq/v1/strategies")["reports"]["hybrid"]["artifact"]
        assert asked(connection, "/routeiq/v1/status")["worker_id"] == worker
        return worker, said, scores
    finally:
        connection.close()


def every_worker(gateway: Gateway, workers: int) -> dict[int, tuple[str, Scores]]:
    found: dict[int, tuple[str, Scores]] = {}

    def all_seen() -> bool:
        worker, artifact, scores = seen(gateway)
        found[worker] = (artifact, scores)
        return len(found) == workers

    wait_until(all_seen, f"{workers} workers answer", 20.0)
    return found


def predicted(artifact: Path, folder: Path) -> Scores:
    """The same scores from the command line."""
    data, out = folder / "data.jsonl", folder / "scores.jsonl"
    rows = [{"id": text, "route_text": text} for text in TEXTS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    routeiq("models", "score", "--artifact", artifact, "--data", data, "--out", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {line["id"]: line["scores"] for line in lines}


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_every_worker_gives_the_scores_of_the_artifact(
    start: StartGateway, simulator: SimulatorProcess, hybrid: Path, tmp_path: Path, workers: int
) -> None:
    models = placed(tmp_path / "models", hybrid)
    gateway = serving(start, simulator, models, workers=workers)
    found = list(every_worker(gateway, workers).values())
    assert {artifact for artifact, _ in found} == {version(hybrid)}
    assert all(scores == found[0][1] for _, scores in found)
    for text, expected in predicted(hybrid, tmp_path).items():
        assert found[0][1][text] == pytest.approx(expected, abs=1e-4)
    assert len({tuple(scores.values()) for scores in found[0][1].values()}) == len(TEXTS)


def test_every_worker_takes_a_version_that_is_promoted(
    start: StartGateway, simulator: SimulatorProcess, hybrid: Path, tmp_path: Path
) -> None:
    models = placed(tmp_path / "models", hybrid)
    other = train(tmp_path / "other", "hybrid", sample(tmp_path / "other.jsonl", 200, 4))
    gateway = serving(start, simulator, models, workers=4)
    before = every_worker(gateway, 4)
    routeiq("models", "stage", other, "--store", models)
    routeiq("models", "promote", version(other)[:10], "--store", models)
    wait_until(
        lambda: {artifact for artifact, _ in every_worker(gateway, 4).values()} == {version(other)},
        "every worker serves the promoted version",
        20.0,
    )
    after = list(every_worker(gateway, 4).values())
    assert all(scores == after[0][1] for _, scores in after)
    assert after[0][1] != next(iter(before.values()))[1]
