"""A worker's memory of its latest conversations: bounded, and without a pause however large it is.

Conversations are spread over small shards, each of two dictionaries. What is set goes into the younger one; when
that has half of a shard's entries, or has been filled for a whole TTL, it becomes the older one and what was the
older one is dropped. So nothing is ever looked through, and what happens at once (a dictionary that grows, or is
dropped) concerns a few thousand entries. An entry stays for at least a TTL after it was set, room permitting.

An entry is one integer (which deployment, two times): the garbage collector does not look into dictionaries of
such, while 200,000 tuples cost it 11 ms (measured).
"""

from __future__ import annotations

GENERATION = 2_048
"""Entries of a shard's younger dictionary at most: what happens to them all at once takes 0.5 ms (measured)."""
MOST_DEPLOYMENTS = 1 << 16
_BITS = 40  # of milliseconds: 34 years
_MASK = (1 << _BITS) - 1

Found = tuple[str | None, float, float]


class _Shard:
    __slots__ = ("old", "rotate_at", "young")

    def __init__(self, rotate_at: float) -> None:
        self.young: dict[str, int] = {}
        self.old: dict[str, int] = {}
        self.rotate_at = rotate_at


class Recent:
    """Conversation to (deployment or `None`, when it was last seen in the store, when it was last written)."""

    def __init__(self, *, ttl_s: float, size: int) -> None:
        shards = 1
        while size > shards * GENERATION * 2:
            shards *= 2
        self._ttl_s = ttl_s
        self._most = max(1, size // shards // 2)
        self._mask = shards - 1
        self._shards = [_Shard(0.0) for _ in range(shards)]
        self._names: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: 0}

    def __len__(self) -> int:
        """How many are remembered; one in both generations counts twice."""
        return sum(len(shard.young) + len(shard.old) for shard in self._shards)

    def get(self, key: str) -> Found | None:
        """What is remembered, expired or not."""
        shard = self._shards[hash(key) & self._mask]
        packed = shard.young.get(key)
        if packed is None:
            packed = shard.old.get(key)
            if packed is None:
                return None
        return (
            self._names[packed >> 2 * _BITS],
            (packed >> _BITS & _MASK) / 1e3,
            (packed & _MASK) / 1e3,
        )

    def set(self, key: str, deployment: str | None, seen: float, written: float) -> None:
        """Remember, among the young."""
        number = self._numbers.get(deployment)
        if number is None:
            number = self._number(deployment)
        shard = self._shards[hash(key) & self._mask]
        young = shard.young
        if len(young) >= self._most or seen >= shard.rotate_at:
            young = self._rotate(shard, seen)
        times = int(seen * 1e3 + 0.5) << _BITS | int(max(written, 0.0) * 1e3 + 0.5)
        young[key] = number << 2 * _BITS | times

    def _rotate(self, shard: _Shard, now: float) -> dict[str, int]:
        shard.old, shard.young = shard.young, {}
        shard.rotate_at = now + self._ttl_s
        return shard.young

    def _number(self, deployment: str | None) -> int:
        if len(self._names) >= MOST_DEPLOYMENTS:  # names that no configuration has any more
            self._names, self._numbers = [None], {None: 0}
            self._shards = [_Shard(0.0) for _ in self._shards]
        number = self._numbers[deployment] = len(self._names)
        self._names.append(deployment)
        return number
