"""`Counters` in memory."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryCounters:
    """Exact within one process."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, int]] = {}
        self._seqs: dict[tuple[str, str], int] = {}

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        """Add a batch, once."""
        if seq <= self._seqs.get((name, worker), 0):
            return
        self._seqs[name, worker] = seq
        group = self._groups.setdefault(name, {})
        for field, amount in deltas.items():
            group[field] = group.get(field, 0) + amount

    async def read(self, name: str) -> Mapping[str, int]:
        """Every field."""
        return dict(self._groups.get(name, {}))

    async def delete(self, name: str) -> None:
        """Forget the group, but not which batches were applied: a late repetition must not bring it back."""
        self._groups.pop(name, None)
