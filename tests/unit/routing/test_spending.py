from __future__ import annotations

import pytest

from routeiq.routing.spending import DEFAULT_TOKENS, SIZE, OutputLength, OutputLengths


def test_cold_start_is_the_expectation_or_the_default() -> None:
    lengths = OutputLengths({"long": 900.0}, default=100.0)
    assert lengths.of("long").expected(None) == 900.0
    assert lengths.of("new").expected(None) == 100.0
    assert OutputLength().expected(None) == DEFAULT_TOKENS


def test_mean_moves_as_if_the_start_were_ten_answers() -> None:
    length = OutputLength(100.0)
    length.add(210)
    assert length.mean == pytest.approx((10 * 100 + 210) / 11)
    length.add(0)
    assert length.mean == pytest.approx((10 * 100 + 210) / 12)


def test_a_model_that_changes_is_followed() -> None:
    length = OutputLength(100.0)
    for _ in range(1000):
        length.add(50)
    for _ in range(300):
        length.add(500)
    assert length.mean == pytest.approx(500 - 450 * 0.99**300, rel=0.01)


def test_limit_and_choices_bound_what_is_expected() -> None:
    length = OutputLength(100.0)
    assert length.expected(20) == 20.0
    assert length.expected(4096, choices=3) == 300.0
    assert length.expected(0) == 0.0


def test_nonsense_is_not_learned() -> None:
    length = OutputLength(100.0)
    length.add(-5)
    assert (length.mean, length.seen) == (100.0, 0)


def test_names_are_bounded() -> None:
    lengths = OutputLengths()
    lengths.of("first").add(10)
    for number in range(SIZE):
        lengths.of(str(number))
    assert lengths.of("first").seen == 0


def test_what_was_seen_survives_a_restart() -> None:
    lengths = OutputLengths()
    lengths.of("a").add(1000)
    lengths.of("b")
    again = OutputLengths()
    again.restore(lengths.snapshot())
    assert again.of("a").mean == lengths.of("a").mean
    assert list(again.snapshot()) == ["a"]


def test_better_starting_points_count_where_no_answer_was_seen() -> None:
    lengths = OutputLengths()
    fresh, seen = lengths.of("fresh"), lengths.of("seen")
    seen.add(300)
    before = seen.mean
    lengths.expect({"fresh": 1000.0, "seen": 1000.0, "later": 50.0})
    assert (fresh.mean, seen.mean, lengths.of("later").mean) == (1000.0, before, 50.0)
