"""The periods of budgets, in the UTC calendar: their names and how long they last. Weeks are those of ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Literal

from routeiq.values import value

Period = Literal["day", "week", "month", "total"]
DAY_S = 86_400.0
GRACE_S = DAY_S
"""A period's bucket is kept this much longer than the period, for what is settled late and clocks that differ."""
TOTAL_KEEP_S = 366 * DAY_S
"""A budget without a period is forgotten when nobody used it for a year."""
ALWAYS = (-inf, inf)


@value
class Span:
    """One period: `start` and `end` are seconds since the epoch, `end` is the first second of the next one."""

    name: str
    start: float
    end: float

    def left_s(self, wall: float) -> float:
        """Seconds until it ends."""
        return max(self.end - wall, 0.0)

    def keep_s(self, wall: float) -> float:
        """How long a store must keep what is counted in it."""
        return TOTAL_KEEP_S if self.end == inf else self.left_s(wall) + GRACE_S


TOTAL = Span(name="total", start=-inf, end=inf)


def span_of(per: Period, wall: float) -> Span:
    """The period that this time lies in."""
    if per == "total":
        return TOTAL
    midnight = datetime.fromtimestamp(wall, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return _span(f"day:{midnight:%Y-%m-%d}", midnight, midnight + timedelta(days=1))
    if per == "week":
        year, week, weekday = midnight.isocalendar()
        monday = midnight - timedelta(days=weekday - 1)
        return _span(f"week:{year:04d}-W{week:02d}", monday, monday + timedelta(days=7))
    first = midnight.replace(day=1)
    later = (first + timedelta(days=31)).replace(day=1)
    return _span(f"month:{first:%Y-%m}", first, later)


def _span(name: str, start: datetime, end: datetime) -> Span:
    return Span(name=name, start=start.timestamp(), end=end.timestamp())
