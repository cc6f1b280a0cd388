from __future__ import annotations

from math import inf
from random import Random
from typing import Any

import pytest

from routeiq.config.experiments import Experiment
from routeiq.experiments.layers import Piece, allot, position
from tests.unit.experiments.helpers import at, experiment


def one(
    traffic: float, start: float | None = None, end: float | None = None, **more: Any
) -> Experiment:
    dates = {"start": start and at(start), "end": end and at(end)}
    return experiment(traffic=traffic, layer="l", **dates, **more)


def pieces(**experiments: Experiment) -> dict[str, list[Piece]]:
    found, problems = allot(experiments)
    assert problems == []
    return found


def test_experiments_of_a_layer_take_disjoint_parts() -> None:
    found = pieces(a=one(0.5, 1), b=one(0.3, 2), c=one(0.2, 3))
    assert found["a"] == [(0.0, 0.5, 0.0)]
    assert found["b"] == [(0.5, 0.8, 0.0)]
    assert found["c"] == [(0.8, 1.0, 0.0)]


def test_the_order_of_declaration_is_of_no_account() -> None:
    a, b = one(0.5, 1), one(0.3, 2)
    assert pieces(a=a, b=b) == pieces(b=b, a=a)


def test_one_that_starts_later_moves_nobody_whatever_its_name() -> None:
    before = pieces(m=one(0.3, 5), n=one(0.3))
    after = pieces(a=one(0.4, 9), m=one(0.3, 5), n=one(0.3), z=one(0.4, 7, 8))
    assert {name: after[name] for name in before} == before


def test_the_place_of_one_that_has_ended_is_used_again_in_pieces_if_need_be() -> None:
    found = pieces(a=one(0.4, 1, 10), b=one(0.2, 2), c=one(0.4, 3, 10), d=one(0.8, 10))
    assert [round(x, 9) for piece in found["d"] for x in piece] == [0.0, 0.4, 0.0, 0.6, 1.0, 0.4]


def test_a_disabled_one_keeps_its_place() -> None:
    found = pieces(a=one(0.5, 1, enabled=False), b=one(0.5, 2))
    assert found["b"] == [(0.5, 1.0, 0.0)]


def test_an_over_full_layer_is_a_problem_of_the_one_that_comes_last() -> None:
    _, problems = allot({"a": one(0.7, 1), "b": one(0.4, 2)})
    assert [problem.key for problem in problems] == ["b"]
    assert "over-full: 0.4 is wanted, 0.3 is left" in problems[0].message


def test_other_layers_and_none_are_not_counted_in() -> None:
    others = experiment(traffic=1.0, layer="m", start=at(1))
    found = pieces(a=one(0.7, 1), b=others, c=experiment(traffic=1.0))
    assert "c" not in found
    assert found["b"] == [(0.0, 1.0, 0.0)]


def test_decimal_fractions_that_fill_a_layer_fit() -> None:
    assert allot({str(n): one(0.1, n + 1) for n in range(10)})[1] == []


def test_two_without_a_start_have_no_order() -> None:
    _, problems = allot({"b": one(0.1), "a": one(0.1)})
    assert [problem.key for problem in problems] == ["b"]
    assert "without `start`" in problems[0].message


def test_no_point_is_in_two_that_run_at_once() -> None:
    rng = Random(7)
    for _ in range(200):
        every = {}
        for n in range(8):
            start = rng.uniform(1, 100)
            every[f"e{n}"] = one(rng.choice([0.05, 0.1, 0.3]), start, start + rng.uniform(1, 60))
        found, problems = allot(every)
        if problems:
            continue
        for name, own in found.items():
            length = sum(end - begin for begin, end, _ in own)
            assert length == pytest.approx(every[name].traffic)
        for _ in range(50):
            point, now = rng.random(), rng.uniform(1, 160)
            there = [
                n for n, own in found.items() if _runs(every[n], now) and position(own, point) < inf
            ]
            assert len(there) <= 1


def _runs(experiment: Experiment, now: float) -> bool:
    assert experiment.start is not None
    assert experiment.end is not None
    return experiment.start.timestamp() <= now < experiment.end.timestamp()


def test_a_position_counts_through_the_pieces() -> None:
    own = [(0.0, 0.4, 0.0), (0.6, 1.0, 0.4)]
    assert [position(own, p) for p in (0.1, 0.5, 0.7)] == pytest.approx([0.1, inf, 0.5])
