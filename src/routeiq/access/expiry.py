"""When a key ends: a date, a time, or a time from now."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def expiry_of(text: str, *, now: float | None = None) -> float:
    """Seconds since the epoch from which on a key is refused.

    A date holds to its end, in UTC; a time without a zone is UTC. With `now`, also `90m`, `12h`, `30d` and `2w`.

    Raises:
        ValueError: the text is none of these.
    """
    span = _SPAN.fullmatch(text)
    if span is not None and now is not None:
        return now + int(span[1]) * _SECONDS[span[2]]
    try:
        if len(text) <= len("2026-12-31"):
            end = datetime.combine(
                date.fromisoformat(text) + timedelta(days=1), datetime.min.time()
            )
        else:
            end = datetime.fromisoformat(text)
        return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        forms = "write an ISO 8601 date or time, like 2027-01-31 or 2027-01-31T18:00:00Z"
        spans = "" if now is None else ", or a time from now, like 30d"
        raise ValueError(f"{text[:40]!r} is no date; {forms}{spans}") from None


def iso(seconds: float | None) -> str | None:
    """A time as the admin API writes it, in UTC and to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
