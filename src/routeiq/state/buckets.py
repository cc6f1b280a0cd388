"""What `Limits` decides, apart from where the numbers are kept: memory and SQL share it.

A `Book` holds some buckets of one tenant as they are at one moment, under whatever lock the store has. What it
changes is in `changed`, to be written back. A bucket of slots has a cell for each worker, any other one cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from routeiq.stores import Ask, BucketKind, Delta, Grant, Reservation
from routeiq.values import value

from .window import Window, extra_of, window_number

SLOTS_TTL_S = 30.0
"""How long slots stay taken after a worker took one without `Limits.keep_slots`."""
WAIT_S = 1.0
"""What is said to who finds all slots taken: nobody knows when one will be free."""

CellKey = tuple[str, str]
"""Bucket and worker; the worker is empty where the bucket is not of slots."""


@value
class Cell:
    """One row: `number`, `previous` and `window_s` are a window's; `expires_at` 0 is never."""

    kind: BucketKind
    taken: int = 0
    number: int = 0
    previous: int = 0
    window_s: float = 0.0
    expires_at: float = 0.0

    def window(self) -> Window:
        """The window that is kept here."""
        return Window(
            number=self.number,
            window_s=self.window_s,
            current=self.taken,
            previous=self.previous,
        )

    def live(self, now: float) -> bool:
        """Whether it still counts."""
        return not 0.0 < self.expires_at <= now


class Book:
    """Some buckets of one tenant at the time `now`."""

    def __init__(self, now: float, cells: Iterable[tuple[CellKey, Cell]]) -> None:
        self.changed: dict[CellKey, Cell] = {}
        self.now = now
        self._buckets: dict[str, dict[str, Cell]] = {}
        for (bucket, worker), cell in cells:
            self._buckets.setdefault(bucket, {})[worker] = cell

    def reserve(self, worker: str, asks: Sequence[Ask]) -> Reservation:
        """Take from all or from none."""
        before = {bucket: dict(cells) for bucket, cells in self._buckets.items()}
        grants = []
        for index, ask in enumerate(asks):
            used = self._used(ask)
            if used + ask.amount > ask.limit:
                wait = self._wait(ask)
                self._buckets = before
                self.changed.clear()
                return Reservation(
                    grants=tuple(self._grant(other, 0) for other in asks),
                    refused=index,
                    retry_after_s=wait,
                )
            taken = ask.amount + extra_of(ask.extra, ask.limit - used - ask.amount)
            self._take(worker, ask, taken)
            grants.append(taken)
        return Reservation(
            grants=tuple(self._grant(ask, taken) for ask, taken in zip(asks, grants, strict=True))
        )

    def adjust(self, worker: str, deltas: Sequence[Delta]) -> None:
        """Add what turned out different."""
        for delta in deltas:
            if delta.kind == "window":
                window = self._window(delta.bucket, delta.window_s)
                changed = window.add(delta.amount, delta.window)
                if changed is not window:
                    self._put_window(delta.bucket, changed)
            elif delta.kind == "period":
                self._add_period(delta.bucket, delta.amount, delta.keep_s, 0)
            else:
                self._add_slots(delta.bucket, worker, delta.amount)

    def used(self, bucket: str, kind: BucketKind) -> int:
        """What is taken now."""
        cells = self._buckets.get(bucket, {})
        if kind == "slots":
            return sum(cell.taken for cell in cells.values() if cell.live(self.now))
        cell = cells.get("")
        if cell is None:
            return 0
        if kind == "window":
            return cell.window().at(self.now).taken(self.now)
        return cell.taken if cell.live(self.now) else 0

    def _used(self, ask: Ask) -> int:
        if ask.kind == "slots":
            return self.used(ask.bucket, "slots")
        if ask.kind == "window":
            return self._window(ask.bucket, ask.window_s).taken(self.now)
        cell = self._period(ask.bucket)
        return ask.seed if cell is None else cell.taken

    def _grant(self, ask: Ask, taken: int) -> Grant:
        used = self._used(ask)
        if ask.kind == "window":
            window = self._window(ask.bucket, ask.window_s)
            return Grant(
                taken=taken,
                used=used,
                reset_s=window.empty_in_s(self.now),
                window=window.number,
            )
        cell = self._period(ask.bucket) if ask.kind == "period" else None
        left = max(cell.expires_at - self.now, 0.0) if cell else 0.0
        return Grant(taken=taken, used=used, reset_s=left)

    def _wait(self, ask: Ask) -> float:
        if ask.kind == "window":
            window = self._window(ask.bucket, ask.window_s)
            return window.fits_in_s(self.now, ask.limit - ask.amount)
        cell = self._period(ask.bucket) if ask.kind == "period" else None
        return max(cell.expires_at - self.now if cell else 0.0, WAIT_S)

    def _take(self, worker: str, ask: Ask, amount: int) -> None:
        if ask.kind == "window":
            window = self._window(ask.bucket, ask.window_s)
            self._put_window(ask.bucket, window.add(amount, window.number))
        elif ask.kind == "period":
            self._add_period(ask.bucket, amount, ask.keep_s, ask.seed)
        else:
            self._add_slots(ask.bucket, worker, amount)

    def _window(self, bucket: str, window_s: float) -> Window:
        cell = self._buckets.get(bucket, {}).get("")
        if cell is None or cell.window_s != window_s:  # a window of another length says nothing
            return Window(number=window_number(self.now, window_s), window_s=window_s)
        return cell.window().at(self.now)

    def _put_window(self, bucket: str, window: Window) -> None:
        cell = Cell(
            kind="window",
            taken=window.current,
            number=window.number,
            previous=window.previous,
            window_s=window.window_s,
            expires_at=(window.number + 2) * window.window_s,
        )
        self._put((bucket, ""), cell)

    def _period(self, bucket: str) -> Cell | None:
        cell = self._buckets.get(bucket, {}).get("")
        return cell if cell is not None and cell.live(self.now) else None

    def _add_period(self, bucket: str, amount: int, keep_s: float, seed: int) -> None:
        old = self._period(bucket) or Cell(kind="period", taken=seed)
        expires_at = max(old.expires_at, self.now + keep_s) if keep_s > 0 else old.expires_at
        taken = max(old.taken + amount, 0)
        self._put((bucket, ""), Cell(kind="period", taken=taken, expires_at=expires_at))

    def _add_slots(self, bucket: str, worker: str, amount: int) -> None:
        old = self._buckets.get(bucket, {}).get(worker)
        if old is None or not old.live(self.now):
            old = Cell(kind="slots")
        until = max(old.expires_at, self.now + SLOTS_TTL_S if amount > 0 else 0.0)
        taken = max(old.taken + amount, 0)
        if taken or old.taken:
            self._put((bucket, worker), Cell(kind="slots", taken=taken, expires_at=until))

    def _put(self, key: CellKey, cell: Cell) -> None:
        self.changed[key] = cell
        self._buckets.setdefault(key[0], {})[key[1]] = cell
