from __future__ import annotations

import pytest

from routeiq.access.expiry import expiry_of, iso


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2027-01-31", "2027-02-01T00:00:00Z"),
        ("2027-01-31T18:00:00", "2027-01-31T18:00:00Z"),
        ("2027-01-31T18:00:00Z", "2027-01-31T18:00:00Z"),
        ("2027-01-31 18:00:00+02:00", "2027-01-31T16:00:00Z"),
    ],
)
def test_dates_hold_to_their_end_and_times_are_utc(text: str, end: str) -> None:
    assert iso(expiry_of(text)) == end


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5_400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_spans_count_from_now(text: str, seconds: float) -> None:
    assert expiry_of(text, now=1_000.0) == 1_000.0 + seconds
    with pytest.raises(ValueError, match="is no date"):
        expiry_of(text)


@pytest.mark.parametrize("text", ["", "soon", "0d", "-1d", "2027-13-01", "9999-12-31", "99999999d"])
def test_anything_else_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        expiry_of(text, now=0.0)


def test_never_is_none() -> None:
    assert iso(None) is None
