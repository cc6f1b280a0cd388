"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Implements `routeiq.ports.Clock`. `wall_offset` may be changed to make the wall clock jump."""

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_800_000_000.0) -> None:
        self.now = monotonic
        self.wall_offset = wall - monotonic

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}; change wall_offset instead")
        self.now += seconds
