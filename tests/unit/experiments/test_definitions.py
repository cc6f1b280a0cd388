from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routeiq.exceptions import ConfigError
from routeiq.experiments.definitions import as_json, changed_meaning, declared, merge
from tests.unit.experiments.helpers import AB, FakeNames, at, experiment

NAMES = FakeNames()
FULL: dict[str, Any] = {
    "variants": AB,
    "start": "2030-01-01T00:00:00Z",
    "ramp": {"hours": 2},
    "guards": [{"metric": "quality", "margin": 0.02}],
    "layer": "l",
}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"variants": {}}, "at least 1 item"),
        ({"variants": {"a!": {}}}, "pattern"),
        ({"variants": {"a": {"weight": 0}}}, "needs a weight"),
        ({"variants": {"a": {"strategy": "knn", "model": "gpt"}}}, "one of strategy"),
        ({"start": at(2), "end": at(1)}, "after start"),
        ({"ramp": {}}, "a ramp needs a start"),
        ({"start": at(1), "ramp": {"start": 0}}, "greater than 0"),
        ({"mode": "shadow", "guards": [{"metric": "quality"}]}, "nothing to guard"),
        ({"mode": "shadow", "variants": {"a": {}}}, "changes something"),
        ({"subject": ()}, "at least 1 item"),
        ({"models": ()}, "at least 1 item"),
        ({"start": "2030-01-01T00:00:00"}, "timezone"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        experiment(**wrong)


def test_a_ramp_without_a_start_may_wait_switched_off() -> None:
    assert experiment(enabled=False, ramp={}).ramp is not None


def test_the_control_is_the_variant_that_changes_nothing_wherever_it_stands() -> None:
    assert experiment(variants={"new": {"strategy": "knn"}, "old": {}}).control == "old"
    both = {"x": {"strategy": "knn"}, "y": {"strategy": "prior"}}
    assert experiment(variants=both).control == "x"


@pytest.mark.parametrize(
    ("mode", "variant", "said"),
    [
        ("live", {"strategy": "nope"}, "no strategy is called 'nope'"),
        ("live", {"profile": "nope"}, "no profile is called 'nope'"),
        ("live", {"model": "nope"}, "no model or group is called 'nope'"),
        ("shadow", {"strategy": "judge"}, "'judge' asks models itself"),
        ("shadow", {"strategy": "cascade"}, "cannot run in shadow"),
    ],
)
def test_names_that_mean_nothing_are_found(mode: str, variant: dict[str, str], said: str) -> None:
    wrong = experiment(mode=mode, variants={"a": {}, "b": variant})
    with pytest.raises(ConfigError, match=said):
        declared({"e": wrong}, NAMES)


@pytest.mark.parametrize(
    ("mode", "variant"),
    [("live", {"strategy": "judge"}), ("shadow", {"strategy": "knn"}), ("live", {"model": "gpt"})],
)
def test_names_that_mean_something_pass(mode: str, variant: dict[str, str]) -> None:
    assert declared({"e": experiment(mode=mode, variants={"b": variant})}, NAMES)


def test_every_problem_of_the_configuration_is_listed() -> None:
    wrong = experiment(variants={"a": {"strategy": "x"}, "b": {"profile": "y"}})
    full = {n: experiment(layer="l", traffic=0.7, start=at(i)) for i, n in enumerate(("f", "g"), 1)}
    with pytest.raises(ConfigError) as caught:
        declared({"e": wrong, **full}, NAMES)
    assert [problem.key for problem in caught.value.problems] == [
        "routeiq.experiments.e.variants.a.strategy",
        "routeiq.experiments.e.variants.b.profile",
        "routeiq.experiments.g",
    ]


def test_both_sources_are_merged() -> None:
    body = {
        "definitions": {"f": FULL},
        "stopped": {"e": {"candidate": {"why": "w"}}},
        "resets": {"f": 2},
    }
    found, problems = merge({"e": experiment()}, body, NAMES)
    assert problems == []
    assert (found["e"].source, found["f"].source) == ("config", "api")
    assert found["e"].stopped == {"candidate": {"why": "w"}}
    assert (found["e"].resets, found["f"].resets) == (0, 2)


def test_an_override_starts_and_stops_a_declared_one() -> None:
    one = experiment(enabled=False, ramp={})
    body = {"overrides": {"e": {"enabled": True, "start": "2030-01-01T00:00:00Z"}}}
    found, problems = merge({"e": one}, body)
    assert problems == []
    assert found["e"].experiment.enabled
    assert found["e"].experiment.start is not None


def test_an_override_that_does_not_fit_any_more_is_a_problem_and_left_out() -> None:
    found, problems = merge(
        {"e": experiment(enabled=False, ramp={})}, {"overrides": {"e": {"enabled": True}}}
    )
    assert not found["e"].experiment.enabled
    assert "a ramp needs a start" in problems[0].message


def test_what_stands_in_config_yaml_wins_over_the_same_name_of_the_api() -> None:
    found, problems = merge({"e": experiment()}, {"definitions": {"e": FULL}})
    assert found["e"].source == "config"
    assert "the one in config.yaml counts" in problems[0].message


def test_a_document_that_somebody_spoilt_spares_what_is_declared() -> None:
    body: dict[str, Any] = {
        "definitions": {"f": 3},
        "stopped": [],
        "overrides": {"e": None},
        "resets": None,
    }
    found, problems = merge({"e": experiment()}, body)
    assert set(found) == {"e"}
    assert problems


def test_written_and_read_again_an_experiment_is_the_same() -> None:
    one = experiment(**FULL)
    assert experiment(**as_json(one)) == one


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"traffic": 0.5, "guards": [], "end": "2031-01-01T00:00:00Z"}, False),
        ({"variants": {"control": {}, "candidate": {"strategy": "knn", "weight": 3}}}, False),
        ({"variants": {**AB, "third": {"profile": "eco"}}}, False),
        ({"variants": {"control": {}, "candidate": {"strategy": "prior"}}}, True),
        ({"variants": {"other": {}, "candidate": {"strategy": "knn"}}}, True),
        ({"salt": "x"}, True),
        ({"models": ["gpt"]}, True),
        ({"subject": ["key"]}, True),
        ({"layer": "m"}, True),
    ],
)
def test_what_makes_old_figures_meaningless(change: dict[str, Any], expected: bool) -> None:
    assert changed_meaning(experiment(**FULL), experiment(**{**FULL, **change})) is expected
