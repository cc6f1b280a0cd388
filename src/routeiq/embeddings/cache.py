"""A bounded cache of feature vectors, least recently used out first.

Conversations, retries and the explanation after a decision ask for the same prompt again. The key is a hash
of what the features are made from, so no prompt stays in memory and nothing depends on who asked.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from routeiq.types import RoutingRequest

Vector = npt.NDArray[np.float32]

ENTRIES = 256
"""About 0.4 MB of vectors with 276 dimensions."""


class FeatureCache:
    """Vectors by the content of a request."""

    __slots__ = ("_entries", "_limit", "hits", "misses")

    def __init__(self, limit: int = ENTRIES) -> None:
        self._entries: OrderedDict[bytes, Vector] = OrderedDict()
        self._limit = limit
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Vector | None:
        """The vector, now the most recently used one; `None` if there is none."""
        vector = self._entries.pop(key, None)
        if vector is None:
            self.misses += 1
            return None
        self._entries[key] = vector
        self.hits += 1
        return vector

    def put(self, key: bytes, vector: Vector) -> None:
        """Keep a vector, which becomes read-only because it will be handed out again."""
        if self._limit <= 0:
            return
        vector.flags.writeable = False
        self._entries[key] = vector
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)


def content_key(request: RoutingRequest) -> bytes:
    """16 bytes that differ where the features of two requests can differ.

    The text, the system prompt, the number of turns and the needs; neither the caller nor the session.
    """
    digest = blake2b(digest_size=16)
    system = request.system.encode("utf-8", "surrogatepass")
    needs = ",".join(sorted(request.needs))
    digest.update(f"{request.turns} {len(system)} {needs}\n".encode())
    digest.update(system)
    digest.update(request.text.encode("utf-8", "surrogatepass"))
    return digest.digest()
