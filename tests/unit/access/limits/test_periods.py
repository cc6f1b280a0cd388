from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest

from routeiq.access.limits.periods import DAY_S, GRACE_S, TOTAL_KEEP_S, Period, span_of


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "name", "start", "end"),
    [
        ("day", "2026-11-21T08:00:00", "day:2026-11-21", "2026-11-21", "2026-11-22"),
        ("day", "2026-12-31T23:59:59.999", "day:2026-12-31", "2026-12-31", "2027-01-01"),
        ("week", "2026-11-22T23:59:59", "week:2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00:00", "week:2026-W48", "2026-11-23", "2026-11-30"),
        ("week", "2027-01-01T12:00:00", "week:2026-W53", "2026-12-28", "2027-01-04"),
        ("week", "2024-12-30T12:00:00", "week:2025-W01", "2024-12-30", "2025-01-06"),
        ("month", "2028-02-29T12:00:00", "month:2028-02", "2028-02-01", "2028-03-01"),
        ("month", "2026-02-28T23:59:59", "month:2026-02", "2026-02-01", "2026-03-01"),
        ("month", "2026-12-31T23:59:59", "month:2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2026-01-31T00:00:00", "month:2026-01", "2026-01-01", "2026-02-01"),
        ("month", "2026-10-25T02:30:00", "month:2026-10", "2026-10-01", "2026-11-01"),
    ],
)
def test_periods_of_the_utc_calendar(
    per: Period, now: str, name: str, start: str, end: str
) -> None:
    span = span_of(per, at(now))
    assert (span.name, span.start, span.end) == (name, at(start), at(end))


def test_what_is_kept_outlives_the_period() -> None:
    span = span_of("day", at("2026-11-21T18:00:00"))
    assert span.left_s(at("2026-11-21T18:00:00")) == DAY_S / 4
    assert span.keep_s(at("2026-11-21T18:00:00")) == DAY_S / 4 + GRACE_S
    assert span.left_s(at("2026-11-25")) == 0.0


def test_total_never_ends_and_is_kept_a_year_from_each_use() -> None:
    span = span_of("total", at("2026-11-21"))
    assert (span.name, span.start, span.end) == ("total", -inf, inf)
    assert span.keep_s(at("2026-11-21")) == TOTAL_KEEP_S
