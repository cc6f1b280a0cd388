"""Affinity: a conversation stays with the deployment that answered it last, since that has its prompt in cache.

Two levels. In memory, per worker: dictionaries that one event loop reads and writes without a lock, and that
forget by generations, never by looking through them. Beyond it the shared store, written behind in batches and
asked for conversations that this worker has not seen lately. While the store is lost each worker goes on with its
own memory; what changed meanwhile is written when the store is back, and what was known before is asked for again.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import re
from collections.abc import Coroutine
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Conversations

from .recent import Recent

logger = logging.getLogger("routeiq.routing")
BATCH_S = 0.02
"""How long changes gather before they are written."""
BATCH = 250
"""Most entries in one write, so that encoding them is no pause."""
RECHECK_S = 30.0
"""After this the store is asked, in the background, whether another worker moved the conversation."""
MISS_S = 5.0
"""How long a conversation that the store does not know is not asked for again."""
RETRY_S = 0.5
"""Pause before a write that failed is tried again."""
CHECKS = 16
"""Conversations that are looked up in the background at once."""
MOST_CHECKS = 1_000
"""Conversations that wait for that."""
CLOSE_S = 2.0
"""For the last write."""
HEAD = 2048
_RESPONSE_ID = re.compile(rb'"id"\s*:\s*"(resp_[A-Za-z0-9_\-.=+/]{1,250})"')


class Unknown(enum.Enum):
    """What `get` says where the store must be asked (`fetch`)."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


def conversation_key(tenant: str, session_id: str, model: str) -> str:
    """The store's name for a conversation: nobody else's, and nothing can be read from it."""
    text = f"{len(tenant)}:{tenant}{len(model)}:{model}{session_id}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def response_id(body: bytes) -> str | None:
    """The id of a Responses API answer, by which its next turn will name it (`previous_response_id`).

    `body` is the answer, or the first bytes of its stream; only their beginning is looked at. Text within it
    cannot be mistaken for an id: its quotes are escaped.
    """
    found = _RESPONSE_ID.search(body, 0, HEAD)
    return None if found is None else found[1].decode("ascii")


class Affinity:
    """Which deployment a conversation stays with. Everything but `fetch` and `close` returns at once.

    Run `run` for as long as the worker lives.
    """

    def __init__(self, *, store: Conversations, clock: Clock, ttl_s: float, size: int) -> None:
        self._store = store
        self._monotonic = clock.monotonic
        self._ttl_s = ttl_s
        self._size = size
        self._renew_s = ttl_s / 10
        self._recheck_s = min(RECHECK_S, self._renew_s)
        self._recent = Recent(ttl_s=ttl_s, size=size)
        self._unwritten: dict[str, str] = {}
        self._checks: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._lost = False
        self._back_at = clock.monotonic()
        self.dropped = 0

    def status(self) -> dict[str, Any]:
        """For the admin API. `dropped` counts changes that were never written: the store was away too long."""
        return {
            "conversations": len(self._recent),
            "unwritten": len(self._unwritten),
            "dropped": self.dropped,
            "shared": not self._lost,
        }

    def get(self, key: str) -> str | Unknown | None:
        """The deployment as far as this worker knows; `UNKNOWN` where only the store can say."""
        found = self._recent.get(key)
        if found is None:
            return UNKNOWN
        deployment, seen, written = found
        now = self._monotonic()
        if deployment is None:
            return None if now - seen < MISS_S else UNKNOWN
        if now - seen < self._recheck_s and seen >= self._back_at:
            return deployment
        if now - written >= self._ttl_s:
            return UNKNOWN
        if seen < self._back_at and not self._lost:
            return UNKNOWN  # workers may have parted while the store was away
        self._check(key, deployment)
        return deployment

    async def fetch(self, key: str) -> str | None:
        """Ask the store, in one round trip. While it is away this worker's memory must do."""
        deployment = self._unwritten.get(key)
        if deployment is not None:  # younger than what the store has
            return deployment
        known = self._live(key)
        try:
            found = await self._store.get(key)
        except StoreUnavailable as error:
            self._away(error)
            return known
        self._here()
        newer = self._unwritten.get(key)
        if newer is not None:
            return newer
        now = self._monotonic()
        if found is None and known is not None:  # the store lost it
            self._recent.set(key, known, now, now)
            self._write(key, known)
            return known
        self._recent.set(key, found, now, now - self._renew_s)
        return found

    def put(self, key: str, deployment_id: str, stick: str | None = None) -> None:
        """The conversation was answered by this deployment; written behind where that is news or must be renewed.

        `stick` is what it had been asked to stay with. If it did, that is no news, and must not undo what was
        learnt from another worker while the answer was under way.
        """
        now = self._monotonic()
        found = self._recent.get(key)
        if found is not None and found[0] is not None:
            if found[0] != deployment_id and deployment_id == stick:
                return
            if found[0] == deployment_id and now - found[2] < self._renew_s and not self._lost:
                return
        self._recent.set(key, deployment_id, now, now)
        self._write(key, deployment_id)

    async def run(self) -> None:
        """Write and look up until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(RETRY_S if self._lost else BATCH_S)
            await self.step()

    async def step(self) -> None:
        """One round of `run`: a batch of writes and a batch of look-ups."""
        self._wake.clear()
        await self._flush()
        await self._look_up()
        if self._unwritten or self._checks:
            self._wake.set()

    async def close(self) -> None:
        """Write what is left, if the store is there."""
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._unwritten:
                    await self._flush()
                    if self._lost:
                        break
        except TimeoutError as error:
            self._away(error)
        if self._unwritten:
            logger.warning("conversations lost", extra={"count": len(self._unwritten)})

    def _live(self, key: str) -> str | None:
        found = self._recent.get(key)
        if found is None or self._monotonic() - found[2] >= self._ttl_s:
            return None
        return found[0]

    def _write(self, key: str, deployment: str) -> None:
        if key not in self._unwritten and len(self._unwritten) >= self._size:
            self.dropped += 1
            return
        self._unwritten[key] = deployment
        self._wake.set()

    def _check(self, key: str, deployment: str) -> None:
        """Look it up in the background; if there is no room, the next turn asks again."""
        if len(self._checks) < MOST_CHECKS:
            self._checks[key] = deployment
            self._wake.set()

    async def _flush(self) -> None:
        batch = dict(islice(self._unwritten.items(), BATCH))
        if not batch:
            return
        try:
            await self._store.put(batch, self._ttl_s)
        except StoreUnavailable as error:
            self._away(error)
            return
        self._here()
        for key, deployment in batch.items():
            if self._unwritten.get(key) == deployment:  # else it moved on meanwhile
                del self._unwritten[key]

    async def _look_up(self) -> None:
        checks = list(self._checks.items())
        for start in range(0, len(checks), CHECKS):
            some: list[Coroutine[Any, Any, None]] = [
                self._compare(key, deployment) for key, deployment in checks[start : start + CHECKS]
            ]
            await asyncio.gather(*some)

    async def _compare(self, key: str, deployment: str) -> None:
        """Take what the store says now; renew it there; say it again where the store lost it."""
        self._checks.pop(key, None)
        try:
            found = await self._store.get(key)
        except StoreUnavailable as error:
            self._away(error)
            found = deployment  # until somebody knows better
        else:
            self._here()
        known = self._recent.get(key)
        if key in self._unwritten or known is None or known[0] != deployment:
            return  # it moved here meanwhile
        now = self._monotonic()
        if found is not None and found != deployment:
            self._recent.set(key, found, now, now - self._renew_s)
        elif found is None or now - known[2] >= self._renew_s:
            self._recent.set(key, deployment, now, now)
            self._write(key, deployment)
        else:
            self._recent.set(key, deployment, now, known[2])

    def _away(self, error: Exception) -> None:
        if not self._lost:
            said = f"{type(error).__name__}: {error}"
            logger.warning("conversations are not shared for now", extra={"error": said})
        self._lost = True

    def _here(self) -> None:
        if self._lost:
            self._lost = False
            self._back_at = self._monotonic()
