"""The sliding window: at most so much in any `window_s` seconds, from two integers.

Time is cut into windows, numbered by the store's clock. What was taken in the last one counts with the share of
it that still lies in the past `window_s`, as if it had been taken evenly. So in each numbered window at most the
limit is admitted, and in any other `window_s` seconds too while requests come evenly; who takes the whole limit
at the end of one window and all that is free during the next comes to almost twice the limit in between.
"""

from __future__ import annotations

from math import ceil, floor

from routeiq.values import value

MARGIN_S = 0.001
"""Added to waits, so that the rounding of floats does not refuse who comes exactly then."""


@value
class Window:
    """What was taken in the window with this number and in the one before."""

    number: int
    window_s: float
    current: int = 0
    previous: int = 0

    def at(self, now: float) -> Window:
        """As it is at this time. The number never decreases: a clock that jumps back frees nothing."""
        number = window_number(now, self.window_s)
        if number <= self.number:
            return self
        previous = self.current if number == self.number + 1 else 0
        return Window(number=number, window_s=self.window_s, previous=previous)

    def left_s(self, now: float) -> float:
        """How long this window still lasts; all of it where the clock jumped back."""
        return min(max((self.number + 1) * self.window_s - now, 0.0), self.window_s)

    def taken(self, now: float) -> int:
        """What counts against the limit now, rounded up."""
        return self.current + ceil(self.previous * self.left_s(now) / self.window_s)

    def empty_in_s(self, now: float) -> float:
        """After how long nothing counts any more."""
        if self.current:
            return self.left_s(now) + self.window_s
        return self.left_s(now) if self.previous else 0.0

    def fits_in_s(self, now: float, room: int) -> float:
        """After how long no more than `room` counts if nobody takes anything."""
        if room < 0:
            return self.empty_in_s(now) + MARGIN_S
        if self.taken(now) <= room:
            return 0.0
        left = self.left_s(now)
        if self.current <= room:
            share = (room - self.current) / self.previous
            return left - share * self.window_s + MARGIN_S
        return left + (1 - room / self.current) * self.window_s + MARGIN_S

    def add(self, amount: int, number: int) -> Window:
        """With `amount` more (or less) in the window `number`; one that is over is left alone."""
        current, previous = self.current, self.previous
        if number == self.number:
            current = max(current + amount, 0)
        elif number == self.number - 1:
            previous = max(previous + amount, 0)
        else:
            return self
        return Window(
            number=self.number, window_s=self.window_s, current=current, previous=previous
        )


def window_number(now: float, window_s: float) -> int:
    """Which window this time lies in."""
    return floor(now / window_s)


def extra_of(extra: int, left: int) -> int:
    """How much more than it needs a worker may take: never more than an eighth of what is left."""
    return max(min(extra, left // 8), 0)
