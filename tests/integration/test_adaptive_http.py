"""Learning from feedback over HTTP: traffic moves, exploration is on record, a change raises an alarm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from routeiq.simulator.sample import prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import EASY, answered_by, chat, decision_of, get
from tests.integration.learned import (
    feed,
    placed,
    report,
    routeiq,
    sample,
    serving,
    together,
    train,
    version,
)
from tests.support.processes import Gateway, SimulatorProcess, wait_until

ROUNDS = 160
EXPLORE = 0.2
QUALITY_ONLY = {"auto": {"cost_weight": 0.0}}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adaptive")
    return train(folder / "adaptive", "adaptive", sample(folder / "data.jsonl", 250, 1))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linucb")
    return train(folder / "linucb", "linucb", sample(folder / "data.jsonl", 250, 1))


def adaptive(
    start: StartGateway,
    simulator: SimulatorProcess,
    models: Path,
    name: str = "adaptive",
    *,
    workers: int = 1,
    learning: dict[str, Any] | None = None,
    **options: float,
) -> Gateway:
    return serving(
        start,
        simulator,
        models,
        workers=workers,
        strategy={"name": name, "options": options},
        profiles=QUALITY_ONLY,
        learning=learning or {},
    )


def taught(
    gateway: Gateway, count: int, reward: Callable[[str], float], seed: int = 1
) -> Sequence[str]:
    """Who answered `count` prompts, each of which got its feedback at once."""
    used = []
    for text in prompts(count, seed):
        answer = chat(gateway, "auto", text)
        used.append(answered_by(answer))
        feed(gateway, answer, reward(used[-1]))
    return used


@pytest.mark.parametrize("name", ["adaptive", "linucb"])
def test_bad_feedback_moves_traffic_away_and_good_feedback_does_not(
    start: StartGateway,
    simulator: SimulatorProcess,
    artifact: Path,
    linear: Path,
    tmp_path: Path,
    name: str,
) -> None:
    models = placed(tmp_path, {"adaptive": artifact, "linucb": linear}[name])
    gateway = adaptive(start, simulator, models, name, exploration=0.05)
    before = [answered_by(chat(gateway, "auto", text)) for text in prompts(40, 7)]
    favourite, share = Counter(before).most_common(1)[0]
    assert share >= 12, before
    used = taught(gateway, ROUNDS, lambda model: 0.0 if model == favourite else 1.0)
    late = used[-40:].count(favourite)
    assert late <= 4, used
    after = [answered_by(chat(gateway, "auto", text)) for text in prompts(40, 7)]
    assert after.count(favourite) <= 4
    assert report(gateway)["failures"] == {}


def test_without_feedback_nothing_moves(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = adaptive(start, simulator, placed(tmp_path, artifact), exploration=0.0)
    rounds = [
        [answered_by(chat(gateway, "auto", text)) for text in prompts(30, 7)] for _ in range(2)
    ]
    assert rounds[0] == rounds[1]


def test_a_change_of_a_model_raises_an_alarm_and_exploration(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = adaptive(
        start, simulator, placed(tmp_path, artifact), exploration=0.0, alarm_exploration=0.3
    )
    said = report(gateway)["reports"]["adaptive"]
    assert (said["drift_alarms"], said["drifted"], said["exploration"]) == (0, {}, 0.0)
    used = taught(gateway, 60, lambda _: 0.0)
    said = report(gateway)["reports"]["adaptive"]
    assert said["drift_alarms"] >= 1
    assert set(said["drifted"].values()) == {"worse"}
    assert set(said["drifted"]) <= set(used)
    assert 0.0 < said["exploration"] <= 0.3
    (posteriors,) = said["posteriors"].values()
    assert sum(one["outcomes"] for one in posteriors.values()) == 60
    assert all(posteriors[model]["move"] < 0.0 for model in said["drifted"])


def test_exploration_is_on_record_with_its_propensities(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    gateway = adaptive(
        start,
        simulator,
        placed(tmp_path / "models", artifact),
        exploration=EXPLORE,
        learning={"decision_log": str(log)},
    )
    count = 150
    answers = together(lambda text: chat(gateway, "auto", text), prompts(count, 3))
    assert {answer.status for answer in answers} == {200}

    def written() -> list[dict[str, Any]]:
        text = "".join(path.read_text() for path in log.glob("decisions-*"))
        return [json.loads(line) for line in text.split("\n") if line]

    wait_until(lambda: len(written()) == count, "every decision is in the log")
    lines = written()
    for line in lines:
        chances = line["propensities"]
        assert sum(chances.values()) == pytest.approx(1.0)
        assert line["propensity"] == pytest.approx(chances[line["chosen"]])
        assert set(chances) == {one["model"] for one in line["candidates"]}
        assert sorted(chances.values())[:-1] == pytest.approx(
            [EXPLORE / len(chances)] * (len(chances) - 1)
        )
    explored = [line for line in lines if line["explored"]]
    assert 0.08 * count <= len(explored) <= 0.34 * count  # 20 %, three and a half deviations
    assert all("drawn at random to learn" in line["reason"] for line in explored)
    assert len({line["chosen"] for line in explored}) >= 4
    greedy = [line for line in lines if not line["explored"]]
    assert all(line["propensity"] == max(line["propensities"].values()) for line in greedy)


def test_what_was_hinted_or_asked_for_by_name_is_not_explored(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = adaptive(start, simulator, placed(tmp_path, artifact), exploration=0.5)
    hint = {"x-routeiq-hint": "sim-medium"}
    hinted = [chat(gateway, "auto", f"{EASY} {n}", headers=hint) for n in range(20)]
    assert {answered_by(answer) for answer in hinted} == {"sim-medium"}
    named = [chat(gateway, "sim-nano", f"{EASY} {n}") for n in range(20)]
    assert {answered_by(answer) for answer in named} == {"sim-nano"}
    for answer in (hinted[0], named[0]):
        record = decision_of(gateway, answer)
        assert (record["explored"], record["propensity"]) == (False, 1.0)


def test_feedback_is_about_the_model_that_answered_after_a_fallback(
    start: StartGateway, sim: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = adaptive(start, sim, placed(tmp_path, artifact), exploration=0.0)
    first = answered_by(chat(gateway, "auto", EASY))
    sim.behave("status=500", first)
    answer = chat(gateway, "auto", EASY)
    assert answered_by(answer) != first
    feed(gateway, answer, 0.0)
    (posteriors,) = report(gateway)["reports"]["adaptive"]["posteriors"].values()
    assert set(posteriors) == {answered_by(answer)}


def test_a_model_that_fails_is_chosen_less(
    start: StartGateway, sim: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = serving(
        start,
        sim,
        placed(tmp_path, artifact),
        strategy={"name": "adaptive", "options": {"exploration": 0.0}},
        profiles=QUALITY_ONLY,
        resilience={"backoff_base_s": 0.0, "retry_budget": 1.0},
        env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"},
    )
    favourite = answered_by(chat(gateway, "auto", EASY))
    sim.behave("status=500", favourite)
    for _ in range(25):
        assert answered_by(chat(gateway, "auto", EASY)) != favourite
    assert 0.0 < report(gateway)["reports"]["adaptive"]["reliability"][favourite] < 1.0
    asked = [one["json"]["model"] for one in sim.requests()]
    assert asked.count(favourite) < 15, asked
    record = decision_of(gateway, chat(gateway, "auto", EASY))
    assert record["candidates"][0]["model"] != favourite
    assert record["attempts"] == 1


def test_two_workers_learn_each_from_its_own_decisions(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    gateway = adaptive(
        start,
        simulator,
        placed(tmp_path / "models", artifact),
        workers=2,
        exploration=0.0,
        learning={"decision_log": str(tmp_path / "log")},
    )
    count = 40
    for answer in together(lambda text: chat(gateway, "auto", text), prompts(count, 3)):
        feed(gateway, answer, 1.0)

    def learned() -> dict[int, int]:
        seen = {}
        for _ in range(24):
            status = get(gateway, "/routeiq/v1/status").json()
            seen[status["worker_id"]] = status["learning"]["feedback_learned"]
        return seen

    wait_until(lambda: sum(learned().values()) == count, "all feedback was learned", 20.0)
    shares = learned()
    assert len(shares) == 2
    assert all(shares.values()), shares

    def outcomes() -> set[int]:
        found = set()
        for _ in range(24):
            (posteriors,) = report(gateway)["reports"]["adaptive"]["posteriors"].values()
            found.add(sum(one["outcomes"] for one in posteriors.values()))
        return found

    assert outcomes() == set(shares.values())


def test_another_artifact_drops_what_was_learned_against_the_old_one(
    start: StartGateway, simulator: SimulatorProcess, artifact: Path, tmp_path: Path
) -> None:
    other = train(tmp_path / "other", "adaptive", sample(tmp_path / "data.jsonl", 200, 5))
    gateway = adaptive(start, simulator, placed(tmp_path / "models", artifact), exploration=0.0)
    taught(gateway, 10, lambda _: 0.0)
    assert report(gateway)["reports"]["adaptive"]["posteriors"]
    routeiq("models", "stage", other, "--store", tmp_path / "models")
    routeiq("models", "promote", version(other), "--store", tmp_path / "models")

    def said() -> dict[str, Any]:
        found: dict[str, Any] = report(gateway)["reports"]["adaptive"]
        return found

    wait_until(lambda: said()["artifact"] == version(other), "the new artifact is taken")
    assert said()["posteriors"] == {}
    assert chat(gateway, "auto", EASY).status == 200


def test_it_learns_without_any_artifact_too(
    start: StartGateway, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    gateway = adaptive(start, simulator, tmp_path, exploration=0.0)
    favourite = answered_by(chat(gateway, "auto", EASY))
    taught(gateway, 80, lambda model: 0.0 if model == favourite else 1.0)
    assert answered_by(chat(gateway, "auto", EASY)) != favourite
