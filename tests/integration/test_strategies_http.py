"""Every built-in strategy serves requests over HTTP, with and without a trained artifact, and fails at none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from routeiq.registry import BUILTIN_STRATEGIES
from routeiq.strategies.learned import LearnedStrategy
from routeiq.training.fitting.train import KINDS
from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    EASY,
    HARD,
    answered_by,
    catalogue,
    chat,
    decision_of,
    get,
    user,
)
from tests.integration.learned import feed, report, sample, serving, train, version
from tests.support.processes import Gateway, SimulatorProcess

NAMES = sorted(BUILTIN_STRATEGIES)
BALANCING = ("round-robin", "random", "weighted", "least-busy", "lowest-latency", "lowest-cost")
CHATS = [one["model_name"] for one in catalogue("") if one["model_info"]["mode"] == "chat"]
OPTIONS: dict[str, dict[str, Any]] = {
    "judge": {"model": "sim-nano"},
    "threshold": {"using": "hybrid", "strong": "sim-large", "weak": "sim-small"},
}
TRAINED = [name for name in KINDS if name in BUILTIN_STRATEGIES]
ROWS = 120


def groups() -> dict[str, Any]:
    """A routing group for each strategy, named like it."""
    return {
        name: {
            "models": CHATS,
            "strategy": {"name": name, "options": OPTIONS.get(name, {})},
        }
        for name in NAMES
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small artifact of every kind that can be trained."""
    folder = tmp_path_factory.mktemp("models")
    data = sample(folder / "data.jsonl", ROWS, 1)
    with ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(train, folder / kind, kind, data) for kind in TRAINED]:
            made.result()
    return folder


@pytest.fixture(scope="module")
def untrained(
    start: StartGateway, simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Gateway:
    return serving(start, simulator, tmp_path_factory.mktemp("empty"), groups=groups())


@pytest.fixture(scope="module")
def trained(start: StartGateway, simulator: SimulatorProcess, models: Path) -> Gateway:
    return serving(start, simulator, models, groups=groups())


def assert_serves(gateway: Gateway, name: str) -> list[str]:
    """Short, hard, streamed and many-turned requests are answered; the reasons that were given."""
    reasons = []
    for text in (EASY, HARD, "", "你好 🙂 " * 200):
        answer = chat(gateway, name, text)
        assert answered_by(answer) in CHATS
        assert answer.headers["x-routeiq-strategy"] == name
        reasons.append(answer.headers["x-routeiq-reason"])
    streamed = chat(gateway, name, HARD, stream=True)
    assert answered_by(streamed) in CHATS
    assert streamed.events()[-1] == "[DONE]"
    turns = [
        user(EASY),
        {"role": "assistant", "content": "Paris."},
        user([{"type": "text", "text": "Why?"}]),
    ]
    last = chat(gateway, name, messages=turns, tools=None)
    assert answered_by(last) in CHATS
    record = decision_of(gateway, last)
    assert {one["model"] for one in record["candidates"]} == set(CHATS)
    feed(gateway, last, 1.0)
    said = report(gateway)
    expected = {} if name != "judge" else {"judge": said["failures"].get("judge")}
    assert {key: value for key, value in said["failures"].items() if key == name} == expected
    assert name not in said["suspensions"]
    return reasons


@pytest.mark.parametrize("name", NAMES)
def test_it_serves_without_an_artifact(untrained: Gateway, name: str) -> None:
    reasons = assert_serves(untrained, name)
    if name in TRAINED and name != "threshold":
        assert all("prior, no trained artifact" in reason for reason in reasons)


@pytest.mark.parametrize("name", NAMES)
def test_it_serves_beside_artifacts(trained: Gateway, models: Path, name: str) -> None:
    reasons = assert_serves(trained, name)
    if name in TRAINED and name != "threshold":
        said = f"predicted by artifact {version(models / name)[:12]}"
        assert all(said in reason for reason in reasons)
        assert report(trained)["reports"][name]["kind"] == name


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "threshold"])
def test_the_artifact_makes_a_difference(untrained: Gateway, trained: Gateway, name: str) -> None:
    texts = (EASY, HARD)
    scores = [
        [[one["score"] for one in _explained(gateway, name, text)["candidates"]] for text in texts]
        for gateway in (untrained, trained)
    ]
    assert scores[0] != scores[1]
    assert all(0.0 <= score <= 1.0 for rows in scores for row in rows for score in row)


def _explained(gateway: Gateway, name: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = decision_of(gateway, chat(gateway, name, text))
    return found


def test_nothing_but_the_judges_talkative_judge_was_counted(
    untrained: Gateway, trained: Gateway
) -> None:
    for gateway in (untrained, trained):
        said = get(gateway, "/routeiq/v1/strategies").json()
        assert set(said["available"]) == set(NAMES)
        assert set(said["reports"]) >= set(NAMES)
        assert set(said["failures"]) <= {"judge"}


def test_every_learned_strategy_is_trained_here() -> None:
    from routeiq.registry import strategy_class

    learned = {name for name in NAMES if issubclass(strategy_class(name), LearnedStrategy)}
    assert learned <= set(TRAINED)


@pytest.mark.parametrize("name", BALANCING)
def test_balancing_within_a_group(
    start: StartGateway, simulator: SimulatorProcess, name: str
) -> None:
    entries = [{**one, "model_name": "pair"} for one in catalogue(simulator.url)[:2]]
    gateway = start({"model_list": entries, "routeiq": {"balancing": name}})
    answers = [chat(gateway, "pair", f"{EASY} {n}") for n in range(12)]
    assert {answered_by(answer) for answer in answers} == {"pair"}
    assert {answer.headers["x-routeiq-strategy"] for answer in answers} == {name}
    said = report(gateway)
    assert (said["balancing"], said["failures"]) == (name, {})
