"""Keys that this worker has verified, so that a request does not wait for the database.

Three layers keep it true: a change is announced and outdates what was made of it (`forget`); where announcements
may have been missed, everything is verified before it is used again (`forget_all`, `refresh`); and without either,
each key that is in use is verified again behind the request once a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from routeiq.access.inheritance import Resolved
from routeiq.access.keys import Pepper, could_be_ours, hash_secret, is_sealed
from routeiq.access.principal import Principal
from routeiq.access.stored import resolve_stored
from routeiq.config.access import EntitySettings
from routeiq.exceptions import StateUnavailable, StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Directory, EntityKind

logger = logging.getLogger("routeiq.access")

VERIFY_S = 60.0
"""A key that is used is verified again this long after the last time, without a request waiting for it."""
UNKNOWN_S = 5.0
"""How long a key that is not in the database is refused without asking again."""
RETRY_S = 1.0
"""How long after a failure a key is not verified behind a request again."""
MAX_UNKNOWN = 10_000
MAX_CHANGES = 10_000

UNKNOWN: Final = Resolved(
    principal=Principal(alias="unknown"),
    refusal="Incorrect API key provided. Ask the gateway's operator for a valid key.",
)


class _Entry:
    """A key as it was found. `epoch` is the last one at which it is known to have been true."""

    __slots__ = ("epoch", "resolved", "retry_at", "verified_at")

    def __init__(self, resolved: Resolved, epoch: int, verified_at: float) -> None:
        self.resolved = resolved
        self.epoch = epoch
        self.verified_at = verified_at
        self.retry_at = 0.0


class _Flight:
    """A look-up under way; who comes after the next change must not share it."""

    __slots__ = ("epoch", "task")

    def __init__(self, epoch: int, task: asyncio.Task[Resolved]) -> None:
        self.epoch = epoch
        self.task = task


class KeyCache:
    """A bounded memory of resolved keys, the least recently used forgotten first. For one event loop.

    Time is counted in epochs: each change begins a new one and is remembered with it. What was read in an epoch
    is good as long as nothing that it was made of has changed in a later one, so a look-up that a change overtook
    can bring nothing old back.

    Args:
        directory: where keys are found.
        pepper: what their hashes are keyed with.
        clock: for ages.
        size: how many keys are remembered.
        grace_s: how long a key is honoured after it was last verified while the directory cannot be asked.
        defaults: holds for every key.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        pepper: Pepper,
        clock: Clock,
        size: int = 50_000,
        grace_s: float = 600.0,
        defaults: EntitySettings | None = None,
    ) -> None:
        self._directory = directory
        self._pepper = pepper
        self._monotonic = clock.monotonic
        self._size = size
        self._grace_s = grace_s
        self._fresh_s = min(VERIFY_S, grace_s)
        self._defaults = defaults or EntitySettings()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[Resolved]] = set()
        self._epoch = 1
        self._doubt = 0  # what was verified before this epoch is verified again before it is used
        self._floor = 0  # what was verified before this epoch is not used at all
        self._changes: dict[tuple[EntityKind, str], int] = {}
        self._generation: int | None = None
        self._heard: set[int] = set()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._entries)

    def known(self, token: bytes) -> Resolved | None:
        """What is remembered of a token; `None` means that `find` must ask. Waits for nothing."""
        pepper = self._pepper.value
        if pepper is None:
            return None
        digest = hash_secret(token, pepper)
        entry = self._entries.get(digest)
        if entry is None:
            return self._not_remembered(token, digest, pepper)
        if entry.epoch != self._epoch and not self._holds(entry, self._doubt):
            return None
        age = self._monotonic() - entry.verified_at
        if age >= self._fresh_s:
            if age >= self._grace_s:
                return None
            self._verify_behind(digest, entry)
        self._entries.move_to_end(digest)
        return entry.resolved

    async def find(self, token: bytes) -> Resolved:
        """Ask the directory; callers that ask for the same key at the same time share the answer.

        Raises:
            StateUnavailable: it cannot be asked, and this key is not remembered well enough.
        """
        digest = b""
        try:
            pepper = await self._pepper.get()
            digest = hash_secret(token, pepper)
            if (seen := self._not_remembered(token, digest, pepper)) is not None:
                return seen
            flight = self._flights.get(digest)
            if flight is None or flight.epoch != self._epoch:
                flight = self._start(digest)
            # One caller that gives up must not take the answer from the others.
            return await asyncio.shield(flight.task)
        except StoreUnavailable as error:
            entry = self._entries.get(digest)
            if entry is not None and self._may_stand_in(entry):
                return entry.resolved
            raise StateUnavailable(
                "API keys cannot be checked right now. Try again in a moment.", retry_after_s=1.0
            ) from error

    def forget(self, kind: EntityKind, id: str, generation: int | None = None) -> None:
        """This key, user or team has changed: what was made of it is asked for again. However much, in no time.

        `generation` is the directory's with this very change, where the announcement says it.
        """
        self._epoch += 1
        self._changes[kind, id] = self._epoch
        if len(self._changes) > MAX_CHANGES:
            self._changes.clear()
            self._heard.clear()
            self._doubt = self._floor = self._epoch
        if kind == "key":
            self._unknown.clear()
        if generation is not None:
            self._heard.add(generation)

    def forget_all(self) -> None:
        """Changes may have been missed: every key is verified before it is used again.

        While the directory cannot be asked, keys that were verified lately are still honoured.
        """
        self._epoch += 1
        self._doubt = self._epoch
        self._unknown.clear()

    async def refresh(self, generation: int) -> None:
        """The directory's generation, read again now and then: doubt everything if a change was not announced."""
        last, heard = self._generation, self._heard
        self._generation = generation
        self._heard = {one for one in heard if one > generation}
        told = (
            last is not None
            and last <= generation <= last + len(heard)
            and heard.issuperset(range(last + 1, generation + 1))
        )
        if not told:
            self.forget_all()

    def use(self, defaults: EntitySettings) -> None:
        """Other defaults hold from now on (the configuration was reloaded)."""
        if defaults != self._defaults:
            self._defaults = defaults
            self.forget_all()

    def _not_remembered(self, token: bytes, digest: bytes, pepper: bytes) -> Resolved | None:
        """`UNKNOWN` where there is no need to ask."""
        if not could_be_ours(token) or not is_sealed(token, pepper):
            return UNKNOWN
        until = self._unknown.get(digest)
        return UNKNOWN if until is not None and self._monotonic() < until else None

    def _holds(self, entry: _Entry, since: int) -> bool:
        """Whether nothing that this key was made of has changed, and it was verified since this epoch."""
        if entry.epoch < since:
            return False
        changes = self._changes
        if any(changes.get(one, 0) > entry.epoch for one in entry.resolved.line):
            return False
        if since >= self._doubt:
            entry.epoch = self._epoch
        return True

    def _may_stand_in(self, entry: _Entry) -> bool:
        """Whether a key may be honoured although the directory cannot be asked."""
        young = self._monotonic() - entry.verified_at < self._grace_s
        return young and self._holds(entry, self._floor)

    def _verify_behind(self, digest: bytes, entry: _Entry) -> None:
        now = self._monotonic()
        if now >= entry.retry_at and digest not in self._flights:
            entry.retry_at = now + RETRY_S
            self._start(digest)

    def _start(self, digest: bytes) -> _Flight:
        task = asyncio.get_running_loop().create_task(self._look(digest, self._epoch))
        flight = self._flights[digest] = _Flight(self._epoch, task)
        self._tasks.add(task)  # one that was overtaken is in no other table

        def landed(task: asyncio.Task[Resolved]) -> None:
            self._tasks.discard(task)
            if self._flights.get(digest) is flight:
                del self._flights[digest]
            if not task.cancelled() and (error := task.exception()) is not None:
                # Whoever waits gets it too; behind a request nobody does.
                level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.ERROR
                logger.log(level, "a key could not be verified", extra={"error": str(error)})

        task.add_done_callback(landed)
        return flight

    async def _look(self, digest: bytes, epoch: int) -> Resolved:
        began = self._monotonic()
        found = await self._directory.find(digest.hex())
        resolved = (
            None if found is None else await resolve_stored(self._directory, found, self._defaults)
        )
        if resolved is None:
            self._miss(digest, epoch, began)
            return UNKNOWN
        self._keep(digest, resolved, epoch, began)
        return resolved

    def _miss(self, digest: bytes, epoch: int, began: float) -> None:
        entry = self._entries.get(digest)
        if entry is not None and entry.epoch <= epoch:
            del self._entries[digest]
        if epoch == self._epoch:
            self._unknown[digest] = began + UNKNOWN_S
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.popitem(last=False)

    def _keep(self, digest: bytes, resolved: Resolved, epoch: int, began: float) -> None:
        entry = self._entries.get(digest)
        if entry is not None and entry.epoch > epoch:
            return  # a later look-up was faster
        self._entries[digest] = _Entry(resolved, epoch, began)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
