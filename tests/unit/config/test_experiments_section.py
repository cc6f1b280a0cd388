from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routeiq.config.experiments import Experiment, Variant

TWO: dict[str, Any] = {"a": {}, "b": {"strategy": "cost-aware"}}
START = "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"traffic": 0.0},
        {"layer": "ui"},
        {"subject": ["team"]},
        {"start": START, "end": "2027-02-01T00:00:00+01:00"},
        {"start": START, "ramp": {}},
        {"enabled": False, "ramp": {"start": 0.5}},
        {"guards": [{"metric": "error_rate"}, {"metric": "quality", "confidence": 0.95}]},
        {"mode": "shadow"},
        {"variants": {"only": {}}},
        {"variants": {"a": {"weight": 0}, "b": {}}},
    ],
)
def test_good(changes: dict[str, Any]) -> None:
    Experiment.model_validate({"variants": TWO, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": {}}, "at least 1"),
        ({"variants": {"a": {"weight": 0}}}, "needs a weight"),
        ({"variants": {"a": {"weight": -1}}}, "greater than or equal"),
        ({"variants": {"a b": {}}}, "pattern"),
        ({"variants": {"a!": {}}}, "pattern"),
        ({"variants": {"a": {"strategy": "x", "model": "y"}}}, "changes one of"),
        ({"traffic": 1.1}, "less than or equal"),
        ({"models": []}, "at least 1"),
        ({"subject": []}, "at least 1"),
        ({"subject": ["ip"]}, "Input should be"),
        ({"start": START, "end": START}, "after start"),
        ({"start": "2027-01-01T00:00:00"}, "timezone"),
        ({"ramp": {}}, "needs a start"),
        ({"start": START, "ramp": {"start": 0}}, "greater than"),
        ({"mode": "shadow", "guards": [{"metric": "error_rate"}]}, "nothing to guard"),
        ({"mode": "shadow", "variants": {"a": {}}}, "changes something"),
        ({"guards": [{"metric": "error_rate", "confidence": 1.0}]}, "less than"),
        ({"nonsense": 1}, "Extra inputs"),
    ],
)
def test_bad(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Experiment.model_validate({"variants": TWO, **changes})


@pytest.mark.parametrize(
    ("variants", "control"),
    [
        ({"b": {"model": "x"}, "a": {}}, "a"),
        ({"b": {"model": "x"}, "a": {"model": "y"}}, "b"),
        ({"b": {}, "a": {}}, "b"),
    ],
)
def test_the_control_is_what_changes_nothing_else_the_first(
    variants: dict[str, Any], control: str
) -> None:
    assert Experiment.model_validate({"variants": variants}).control == control


@pytest.mark.parametrize(
    ("variant", "changes"),
    [({}, False), ({"weight": 3}, False), ({"strategy": "x"}, True), ({"profile": "x"}, True)],
)
def test_what_a_variant_changes(variant: dict[str, Any], changes: bool) -> None:
    assert Variant.model_validate(variant).changes is changes


def test_what_is_written_back_is_read_the_same() -> None:
    one = Experiment.model_validate(
        {"variants": TWO, "start": START, "ramp": {"hours": 2}, "layer": "ui"}
    )
    again = Experiment.model_validate(one.model_dump(mode="json", exclude_defaults=True))
    assert again == one
