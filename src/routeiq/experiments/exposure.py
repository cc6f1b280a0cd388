"""Exact counters of what happened under each variant, added up here and written in batches.

Fields of the counter group `experiment:<name>`, all integers that fit 64 bits. `<v>` is a variant; `<v>!` are its
subjects after a guard stopped it, who are served as the control's:

| field | |
|---|---|
| `<v>:requests` | requests that were carried out under the variant |
| `<v>:units@<epoch>` | what was drawn: requests, or subjects when a worker saw them first; `<v>` even if stopped |
| `workers@<epoch>` | workers that drew under these weights: each may have counted the same subject once |
| `<v>:ended`, `<v>:errors` | requests that came to an end, and those of them that failed |
| `<v>:<metric>_n`, `<v>:<metric>`, `<v>:<metric>_sq`, `<v>:<metric>_sq_hi` | count, sum, sum of squares |

A metric is counted in units so small that rounding does not matter (1e-9 USD, 1e-6 s, 1e-6 of a score). The
square of such a number can have 76 bits, so its low 32 bits are summed up in `_sq` and the rest in `_sq_hi`. Each
sum stays below 2**63 for two thousand million requests of which each costs a dollar and takes ten minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from routeiq.exceptions import StoreUnavailable
from routeiq.stores import Counters

LOW_BITS = 32
_LOW = (1 << LOW_BITS) - 1


def group(experiment: str) -> str:
    """Name of an experiment's counter group."""
    return f"experiment:{experiment}"


class Tally:
    """What one worker has counted and not written yet.

    Of each group at most one batch is under way. Until the store has confirmed it, it keeps its number and its
    content, and is sent again: the store counts it once.
    """

    def __init__(self, counters: Counters, worker: str) -> None:
        self._counters = counters
        self._worker = worker
        self._pending: dict[str, dict[str, int]] = {}
        self._sending: dict[str, dict[str, int]] = {}
        self._seq: dict[str, int] = {}
        self._names: dict[tuple[str, str], tuple[str, str, str, str]] = {}
        self._one_at_a_time = asyncio.Lock()

    def add(self, experiment: str, field: str, amount: int = 1) -> None:
        """Count."""
        fields = self._pending.get(experiment)
        if fields is None:
            fields = self._pending[experiment] = {}
        fields[field] = fields.get(field, 0) + amount

    def measure(self, experiment: str, label: str, metric: str, number: int) -> None:
        """Add one value of a metric of a variant."""
        self._sums(experiment, label, metric, number, 1, 1)

    def correct(self, experiment: str, label: str, metric: str, number: int, before: int) -> None:
        """Put a value in the place of one that was added before."""
        self._sums(experiment, label, metric, before, -1, 0)
        self._sums(experiment, label, metric, number, 1, 0)

    def _sums(
        self, experiment: str, label: str, metric: str, number: int, sign: int, count: int
    ) -> None:
        names = self._names.get((label, metric))
        if names is None:
            field = f"{label}:{metric}"
            names = self._names[label, metric] = (
                f"{field}_n",
                field,
                f"{field}_sq",
                f"{field}_sq_hi",
            )
        fields = self._pending.get(experiment)
        if fields is None:
            fields = self._pending[experiment] = {}
        n, total, low, high = names
        square = number * number
        if count:
            fields[n] = fields.get(n, 0) + count
        fields[total] = fields.get(total, 0) + sign * number
        fields[low] = fields.get(low, 0) + sign * (square & _LOW)
        if square > _LOW:
            fields[high] = fields.get(high, 0) + sign * (square >> LOW_BITS)

    @property
    def waiting(self) -> int:
        """Groups that are not written yet."""
        return len(self._pending.keys() | self._sending.keys())

    async def flush(self) -> None:
        """Write everything.

        Raises:
            StoreUnavailable: what is not written is kept.
        """
        async with self._one_at_a_time:
            for experiment in list(self._sending):  # first what may have been written already
                await self._send(experiment)
            for experiment in list(self._pending):
                self._sending[experiment] = self._pending.pop(experiment)
                self._seq[experiment] = self._seq.get(experiment, 0) + 1
                await self._send(experiment)

    async def _send(self, experiment: str) -> None:
        await self._counters.apply(
            group(experiment), self._worker, self._seq[experiment], self._sending[experiment]
        )
        del self._sending[experiment]

    async def close(self) -> Iterable[str]:
        """Write what is left, once; the experiments whose counts are lost because the store is down."""
        try:
            await self.flush()
        except StoreUnavailable:
            return sorted(self._pending.keys() | self._sending.keys())
        return ()
