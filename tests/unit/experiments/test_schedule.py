from __future__ import annotations

import pytest

from routeiq.experiments.schedule import Schedule
from tests.unit.experiments.helpers import at, experiment

T = 1_000_000.0
HOUR = 3600.0


def test_without_dates_it_always_runs() -> None:
    schedule = Schedule(experiment(traffic=0.3))
    assert schedule.share(0.0) == 0.3
    assert schedule.state(0.0) == "running"


def test_start_and_end_are_honoured_to_the_second() -> None:
    schedule = Schedule(experiment(start=at(T), end=at(T + 10)))
    assert [schedule.share(T + s) for s in (-1, 0, 9, 10)] == [0, 1, 1, 0]
    states = [schedule.state(T + s) for s in (-1, 0, 9, 10)]
    assert states == ["planned", "running", "running", "ended"]


def test_disabled_it_gets_nobody() -> None:
    schedule = Schedule(experiment(enabled=False, start=at(T), end=at(T + 10)))
    assert schedule.share(T) == 0
    assert schedule.state(T) == "disabled"
    assert schedule.state(T + 10) == "ended"


def test_a_ramp_doubles_at_even_intervals_until_all_traffic_takes_part() -> None:
    schedule = Schedule(experiment(start=at(T), traffic=0.5, ramp={"start": 0.1, "hours": 3}))
    shares = [schedule.share(T + h * HOUR) for h in (-0.1, 0, 0.99, 1, 2, 3, 99, 1e7)]
    assert shares == pytest.approx([0, 0.1, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])


def test_a_ramp_that_begins_with_all_of_it_is_none() -> None:
    assert Schedule(experiment(start=at(T), traffic=0.1, ramp={"start": 0.1})).share(T) == 0.1
    assert Schedule(experiment(start=at(T), traffic=0.0, ramp={"start": 0.1})).share(T) == 0.0
