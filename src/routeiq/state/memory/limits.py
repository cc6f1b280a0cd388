"""`Limits` in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from routeiq.ports import Clock
from routeiq.state.buckets import Book, Cell, CellKey
from routeiq.stores import Ask, BucketKind, Delta, Reservation

SWEEP_S = 60.0
"""How often what no longer counts is dropped."""


class MemoryLimits:
    """Exact within one process: nothing else runs while it decides."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tenants: dict[str, dict[str, dict[str, Cell]]] = {}
        self._seqs: dict[tuple[str, str], int] = {}
        self._swept = clock.monotonic()

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        """Take from all buckets or from none."""
        self._sweep()
        book = self._open(tenant, (ask.bucket for ask in asks))
        reservation = book.reserve(worker, asks)
        self._keep(tenant, book)
        return reservation

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        """Settle a batch, once."""
        if seq <= self._seqs.get((tenant, worker), 0):
            return
        self._seqs[tenant, worker] = seq
        book = self._open(tenant, (delta.bucket for delta in deltas))
        book.adjust(worker, deltas)
        self._keep(tenant, book)

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        """This worker's slots, those that are still taken, stay so for `ttl_s`."""
        now = self._clock.wall()
        for cells in self._tenants.get(tenant, {}).values():
            cell = cells.get(worker) if worker else None
            if cell is not None and cell.live(now):
                cells[worker] = Cell(kind="slots", taken=cell.taken, expires_at=now + ttl_s)

    async def usage(self, tenant: str, buckets: Mapping[str, BucketKind]) -> Mapping[str, int]:
        """What is taken in each bucket now."""
        book = self._open(tenant, buckets)
        return {bucket: book.used(bucket, kind) for bucket, kind in buckets.items()}

    async def reset(self, tenant: str, buckets: Sequence[str]) -> None:
        """Forget buckets."""
        known = self._tenants.get(tenant, {})
        for bucket in buckets:
            known.pop(bucket, None)

    def _open(self, tenant: str, buckets: Iterable[str]) -> Book:
        known = self._tenants.get(tenant, {})
        cells: list[tuple[CellKey, Cell]] = [
            ((bucket, worker), cell)
            for bucket in dict.fromkeys(buckets)
            for worker, cell in known.get(bucket, {}).items()
        ]
        return Book(self._clock.wall(), cells)

    def _keep(self, tenant: str, book: Book) -> None:
        known = self._tenants.setdefault(tenant, {})
        for (bucket, worker), cell in book.changed.items():
            known.setdefault(bucket, {})[worker] = cell

    def _sweep(self) -> None:
        if self._clock.monotonic() - self._swept < SWEEP_S:
            return
        self._swept = self._clock.monotonic()
        now = self._clock.wall()
        for tenant, buckets in list(self._tenants.items()):
            for bucket, cells in list(buckets.items()):
                for worker in [worker for worker, cell in cells.items() if not cell.live(now)]:
                    del cells[worker]
                if not cells:
                    del buckets[bucket]
            if not buckets:
                del self._tenants[tenant]
