"""`Counters` on Redis: HINCRBY behind the number of the batch, in one script."""

from __future__ import annotations

from collections.abc import Mapping

from . import keys
from .connection import RedisConnection, script


class RedisCounters:
    """Exact as long as Redis keeps what it acknowledged (persistence, replication)."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._apply = script("counters_apply")

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        """Add a batch, once."""
        args: list[str | int] = [seq, keys.COUNTER_SEQ_S]
        for field, amount in deltas.items():
            args += (field, amount)
        names = [keys.counters(name), keys.counters_seq(name, worker)]
        await self._connection.script(self._apply, names, args)

    async def read(self, name: str) -> Mapping[str, int]:
        """Every field."""
        said = await self._connection.run("HGETALL", keys.counters(name))
        return {field.decode(): int(number) for field, number in said.items()}

    async def delete(self, name: str) -> None:
        """Forget the group, not which batches were applied: a late repetition must not bring it back."""
        await self._connection.run("DEL", keys.counters(name))
