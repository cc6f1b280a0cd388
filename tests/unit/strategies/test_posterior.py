from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from routeiq.strategies.posterior import (
    CELL_STRENGTH,
    MEMORY,
    MODELS,
    STRENGTH,
    ClusterPosteriors,
    Exploration,
    ModelPosterior,
)


def test_first_outcomes_move_the_model_and_the_cell_by_hand() -> None:
    one = ModelPosterior(2)
    one.add(0, -0.5)
    overall = -0.5 / (1 + STRENGTH)
    assert one.overall() == pytest.approx(overall)
    assert one.move(0) == pytest.approx(overall - 0.5 / (1 + CELL_STRENGTH))
    assert one.move(1) == pytest.approx(overall)
    one.add(1, 0.25)
    kept = 1 - 1 / MEMORY
    second = (-0.5 * kept + 0.25) / (kept + 1 + STRENGTH)
    assert one.overall() == pytest.approx(second)
    assert one.move(1) == pytest.approx(second + (0.25 - overall) / (1 + CELL_STRENGTH))


def test_without_outcomes_or_cell_nothing_moves() -> None:
    learned = ClusterPosteriors(4)
    assert learned.move("m", 0) == 0.0
    learned.learn("m", None, 1.0, 0.5)
    assert learned.move("m", None) == pytest.approx(0.5 / (1 + STRENGTH))
    assert learned.move("other", 0) == 0.0


def test_correct_predictions_move_nothing_in_the_long_run() -> None:
    learned, random = ClusterPosteriors(1), Random(0)
    for _ in range(5000):
        predicted = random.random()
        learned.learn("m", 0, float(random.random() < predicted), predicted)
    assert abs(learned.move("m", 0)) < 0.06


def test_a_cell_learns_what_the_whole_does_not_explain() -> None:
    learned, random = ClusterPosteriors(2), Random(1)
    for _ in range(2000):
        cell = random.randrange(2)
        success = random.random() < (0.9 if cell else 0.3)
        learned.learn("m", cell, float(success), 0.6)
    assert learned.move("m", 1) > 0.1 > -0.1 > learned.move("m", 0)


def test_a_drift_is_told_once_and_the_predictions_follow() -> None:
    learned = ClusterPosteriors(1)
    for number in range(500):
        learned.learn("m", 0, float(number % 10 < 7), 0.7)
    found = [learned.learn("m", 0, float(number % 10 < 4), 0.7) for number in range(500)]
    assert [one for one in found if one] == ["worse"]
    assert found.index("worse") < 60
    assert 0.7 + learned.move("m", 0) == pytest.approx(0.4, abs=0.1)
    report = learned.report()["m"]
    assert report["outcomes"] == 1000
    assert report["evidence"] == pytest.approx(MEMORY, rel=0.01)


def test_models_are_bounded() -> None:
    learned = ClusterPosteriors(1)
    for number in range(MODELS + 1):
        learned.learn(str(number), 0, 1.0, 0.5)
    assert len(learned.report()) == MODELS
    assert learned.move("0", 0) == 0.0


def test_snapshots_are_json_and_exact() -> None:
    learned, random = ClusterPosteriors(3), Random(2)
    for _ in range(100):
        learned.learn(f"m{random.randrange(3)}", random.randrange(3), random.random(), 0.5)
    state = orjson.loads(orjson.dumps(learned.snapshot()))
    again = ClusterPosteriors(3)
    again.restore(state)
    assert again.snapshot() == learned.snapshot()
    assert again.move("m1", 2) == learned.move("m1", 2)


BROKEN: list[dict[str, Any]] = [
    {},
    {"cells": 2, "models": {}},
    {"cells": 3, "models": {"m": {}}},
    {"cells": 3, "models": []},
]


@pytest.mark.parametrize("state", BROKEN)
def test_what_is_no_snapshot_is_refused_and_changes_nothing(state: dict[str, Any]) -> None:
    learned = ClusterPosteriors(3)
    learned.learn("m", 0, 1.0, 0.5)
    was = learned.snapshot()
    with pytest.raises(ValueError, match="not a snapshot"):
        learned.restore(state)
    assert learned.snapshot() == was


def test_numbers_that_are_not_finite_or_too_few_are_refused() -> None:
    learned = ClusterPosteriors(3)
    learned.learn("m", 0, 1.0, 0.5)
    for name, value in (("residual", float("inf")), ("counts", [1.0]), ("drift", [0.0])):
        state = learned.snapshot()
        state["models"]["m"][name] = value
        with pytest.raises(ValueError, match="not a snapshot"):
            ClusterPosteriors(3).restore(state)


def test_cells_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        ClusterPosteriors(0)


def test_exploration_is_raised_by_an_alarm_and_halves_back() -> None:
    exploration = Exploration(0.02, 0.12, 10.0)
    assert [exploration.next() for _ in range(3)] == [0.02] * 3
    exploration.alarm()
    shares = [exploration.next() for _ in range(11)]
    assert shares[0] == pytest.approx(0.12)
    assert shares[10] == pytest.approx(0.07)
    exploration.alarm()
    assert exploration.share == pytest.approx(0.12)
    assert exploration.alarms == 2


def test_an_alarm_never_lowers_exploration() -> None:
    exploration = Exploration(0.3, 0.1, 10.0)
    exploration.alarm()
    assert exploration.next() == 0.3
