"""The arithmetic of the sliding window."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.state.window import Window, extra_of, window_number

NOW = 1_800_000_000.0  # a multiple of 60
AMOUNTS = st.integers(0, 10_000)
OFFSETS = st.floats(0.0, 59.999)


def window(current: int = 0, previous: int = 0, *, number: int | None = None) -> Window:
    return Window(
        number=window_number(NOW, 60.0) if number is None else number,
        window_s=60.0,
        current=current,
        previous=previous,
    )


@pytest.mark.parametrize(
    ("passed", "taken"),
    [
        (0.0, 100),
        (59.9, 100),
        (60.0, 100),
        (75.0, 75),
        (90.5, 50),
        (119.0, 2),
        (120.0, 0),
        (1e6, 0),
    ],
)
def test_what_was_taken_slides_out_of_the_window(passed: float, taken: int) -> None:
    now = NOW + passed
    assert window(100).at(now).taken(now) == taken


def test_a_fraction_counts_whole() -> None:
    assert window(0, 1).taken(NOW + 59.9) == 1


@pytest.mark.parametrize("back", [1.0, 61.0, 86_400.0])
def test_a_clock_that_jumps_back_frees_nothing(back: float) -> None:
    before = window(30, 10)
    after = before.at(NOW - back)
    assert after == before
    assert after.taken(NOW - back) == 40
    assert 0 <= after.left_s(NOW - back) <= 60


def test_a_window_that_was_skipped_counts_nothing() -> None:
    assert window(30, 10).at(NOW + 120.0) == window(number=window_number(NOW, 60.0) + 2)


@given(current=AMOUNTS, previous=AMOUNTS, limit=st.integers(0, 12_000), passed=OFFSETS)
def test_who_waits_as_told_fits_and_not_much_sooner(
    current: int, previous: int, limit: int, passed: float
) -> None:
    now, kept = NOW + passed, window(current, previous)
    wait = kept.fits_in_s(now, limit)
    then = now + wait
    assert kept.at(then).taken(then) <= limit
    if wait:
        assert wait <= 120.002
        sooner = now + wait * 0.9 - 0.01
        assert sooner <= now or kept.at(sooner).taken(sooner) > limit - 1


@given(current=AMOUNTS, previous=AMOUNTS, passed=OFFSETS)
def test_after_empty_in_s_nothing_counts(current: int, previous: int, passed: float) -> None:
    now, kept = NOW + passed, window(current, previous)
    then = now + kept.empty_in_s(now) + 0.001
    assert kept.at(then).taken(then) == 0
    assert (kept.empty_in_s(now) == 0) == (current == previous == 0)


def test_what_can_never_fit_is_told_when_the_window_is_empty() -> None:
    assert window(5).fits_in_s(NOW, -1) == pytest.approx(120.0, abs=0.01)


@pytest.mark.parametrize(
    ("which", "amount", "expected"),
    [(0, -4, (6, 8)), (0, -99, (0, 8)), (-1, -3, (10, 5)), (-1, -99, (10, 0)), (-2, -3, (10, 8))],
)
def test_giving_back_reaches_the_window_that_was_debited(
    which: int, amount: int, expected: tuple[int, int]
) -> None:
    number = window_number(NOW, 60.0)
    changed = window(10, 8).add(amount, number + which)
    assert (changed.current, changed.previous) == expected


@given(extra=st.integers(-5, 500), left=st.integers(-50, 5_000))
def test_extra_is_an_eighth_of_what_is_left_at_most(extra: int, left: int) -> None:
    given = extra_of(extra, left)
    assert 0 <= given <= max(extra, 0)
    assert given <= max(left, 0) / 8


def test_the_real_sum_is_never_exceeded_by_even_use() -> None:
    """One unit a second for ten minutes: what is counted is what was taken in the last sixty seconds."""
    kept = window()
    for second in range(600):
        now = NOW + second
        kept = kept.at(now).add(1, window_number(now, 60.0))
        if second >= 120:
            assert abs(kept.taken(now) - 60) <= 1
    assert kept.taken(NOW + 600) <= ceil(60)


def test_who_times_it_well_comes_to_almost_twice_the_limit_and_not_more() -> None:
    """All at the end of a window, then whatever is free: the bound that the module states."""
    limit, kept, admitted = 100, window(), []
    for tenth in range(598, 2400):
        now = NOW + tenth / 10
        kept = kept.at(now)
        room = limit - kept.taken(now)
        kept = kept.add(room, window_number(now, 60.0))
        admitted.append((now, room))
    worst = max(
        sum(taken for when, taken in admitted if end - 60.0 < when <= end) for end, _ in admitted
    )
    by_window = [
        sum(taken for when, taken in admitted if window_number(when, 60.0) == number)
        for number in {window_number(when, 60.0) for when, _ in admitted}
    ]
    assert 1.8 * limit < worst < 2 * limit
    assert max(by_window) <= limit
