"""What the black-box tests of learned routing share: commands, small artifacts, gateways that serve them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.conftest import StartGateway
from tests.integration.helpers import catalogue, get, post
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess

ROUTES = "/routeiq/v1"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command, whatever it ends with."""
    return subprocess.run(
        [sys.executable, "-m", "routeiq", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def routeiq(*arguments: str | Path) -> str:
    """A command that must succeed; its output."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sample(path: Path, rows: int, seed: int) -> Path:
    """Training data of the simulator's models."""
    routeiq("models", "sample", "--rows", str(rows), "--seed", str(seed), "--out", path)
    return path


def train(out: Path, strategy: str, data: Path) -> Path:
    """An artifact."""
    routeiq("models", "train", "--strategy", strategy, "--data", data, "--out", out, "--quiet")
    return out


def version(artifact: Path) -> str:
    found: str = json.loads((artifact / "manifest.json").read_text())["version"]
    return found


def placed(models: Path, *artifacts: Path) -> Path:
    """The artifacts, as `routeiq models train --out` would have written them there."""
    for artifact in artifacts:
        shutil.copytree(artifact, models / artifact.name)
    return models


def serving(
    start: StartGateway,
    simulator: SimulatorProcess,
    models: Path,
    *,
    workers: int = 1,
    env: dict[str, str] | None = None,
    **section: Any,
) -> Gateway:
    """A gateway over the whole catalogue that looks for artifacts in `models`."""
    # A machine that runs tests is slow now and then; that strategies are set aside for it is tested elsewhere.
    patient = {"poll_s": 0.1, "time_budget_ms": 1000.0}
    section["learning"] = {**patient, **section.get("learning", {})}
    return start(
        {"model_list": catalogue(simulator.url), "routeiq": section},
        workers=workers,
        env={"ROUTEIQ_MODELS_PATH": str(models), **(env or {})},
    )


def report(gateway: Gateway) -> dict[str, Any]:
    """What the strategies of the worker that answers say."""
    found: dict[str, Any] = get(gateway, f"{ROUTES}/strategies").json()
    return found


def feed(gateway: Gateway, answer: Answer, score: float) -> None:
    """Feedback on an answer."""
    body = {"decision_id": answer.headers["x-routeiq-decision-id"], "score": score}
    given = post(gateway, f"{ROUTES}/feedback", body)
    assert given.status == 202, given.body


def together(
    work: Callable[[str], Answer], texts: Iterable[str], clients: int = 8
) -> Sequence[Answer]:
    """One call per text, `clients` at a time; in the order of the texts."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(work, texts))


def usd(answer: Answer) -> float:
    """What the gateway says that a request cost."""
    return float(answer.headers["x-routeiq-cost-usd"])
