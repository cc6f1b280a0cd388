"""What is decided about buckets, whatever keeps them."""

from __future__ import annotations

import pytest

from routeiq.state.buckets import SLOTS_TTL_S, WAIT_S, Book, Cell
from routeiq.stores import Ask, BucketKind, Delta

NOW = 1_800_000_000.0


def ask(kind: BucketKind, amount: int = 1, limit: int = 10, **fields: float) -> Ask:
    return Ask(bucket="b", kind=kind, limit=limit, amount=amount, **fields)  # type: ignore[arg-type]


def test_a_refusal_changes_nothing() -> None:
    book = Book(NOW, [])
    refused = book.reserve("w", [ask("period", 4), ask("period", 7)])
    assert refused.refused == 1
    assert [grant.used for grant in refused.grants] == [0, 0]
    assert not book.changed
    assert book.used("b", "period") == 0


def test_two_asks_of_one_bucket_are_added() -> None:
    book = Book(NOW, [])
    assert book.reserve("w", [ask("window", 4), ask("window", 6)]).refused is None
    assert book.used("b", "window") == 10


def test_a_window_of_another_length_starts_afresh() -> None:
    book = Book(NOW, [])
    book.reserve("w", [ask("window", 10, window_s=60.0)])
    assert book.reserve("w", [ask("window", 10, window_s=1.0)]).refused is None


@pytest.mark.parametrize(("keep_s", "expected"), [(0.0, WAIT_S), (500.0, 500.0)])
def test_a_full_period_is_worth_waiting_for_until_it_is_forgotten(
    keep_s: float, expected: float
) -> None:
    book = Book(NOW, [])
    book.reserve("w", [ask("period", 10, keep_s=keep_s)])
    assert book.reserve("w", [ask("period")]).retry_after_s == expected


def test_a_period_is_never_kept_shorter_than_it_was() -> None:
    book = Book(NOW, [])
    book.reserve("w", [ask("period", keep_s=500.0)])
    book.adjust("w", [Delta(bucket="b", kind="period", amount=1, keep_s=5.0)])
    assert book.changed["b", ""].expires_at == NOW + 500.0


def test_full_slots_are_free_at_any_time() -> None:
    book = Book(NOW, [])
    book.reserve("w", [ask("slots", 10)])
    assert book.changed["b", "w"].expires_at == NOW + SLOTS_TTL_S
    assert book.reserve("v", [ask("slots")]).retry_after_s == WAIT_S


def test_giving_a_slot_back_does_not_keep_the_others_longer() -> None:
    held = Cell(kind="slots", taken=3, expires_at=NOW + 1.0)
    book = Book(NOW, [(("b", "w"), held)])
    book.adjust("w", [Delta(bucket="b", kind="slots", amount=-1)])
    assert book.changed["b", "w"] == Cell(kind="slots", taken=2, expires_at=NOW + 1.0)


def test_slots_that_ended_are_not_given_back_twice() -> None:
    ended = Cell(kind="slots", taken=3, expires_at=NOW - 1.0)
    book = Book(NOW, [(("b", "w"), ended)])
    book.adjust("w", [Delta(bucket="b", kind="slots", amount=-1)])
    assert not book.changed
    book.adjust("w", [Delta(bucket="b", kind="slots", amount=2)])
    assert book.used("b", "slots") == 2


def test_a_clock_that_jumps_back_does_not_open_a_full_window() -> None:
    book = Book(NOW, [])
    book.reserve("w", [ask("window", 10)])
    earlier = Book(NOW - 3600.0, book.changed.items())
    assert earlier.reserve("w", [ask("window")]).refused == 0
