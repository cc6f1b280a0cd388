"""What both SQL databases share: blocking work in threads of their own, bounded in time, tried again, reported.

Everything that blocks is in `_attempt`, which runs in a thread. The link is touched on the event loop only.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock

from .database import Session
from .link import Link

T = TypeVar("T")
ATTEMPTS = 40
"""A bound beside the time-out, so that a clock that stands still ends the loop too."""
PAUSE_MIN_S = 0.001
PAUSE_MAX_S = 0.05


class TryAgain(Exception):
    """Nothing was written: a lock could not be had, or the database chose this transaction as a victim."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class DatabaseFailed(Exception):
    """The database failed, not the work that was given to it. `writing`: reading may still go well."""

    def __init__(self, reason: BaseException, *, slow: bool = False, writing: bool = False) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.slow = slow
        self.writing = writing


class ThreadedDatabase(ABC):
    """The asynchronous half of `routeiq.state.database.Database`; the blocking half is a subclass's.

    Open it after the fork: threads and connections do not survive one.
    """

    def __init__(self, *, link: Link, clock: Clock, timeout_s: float) -> None:
        self._link = link
        self._clock = clock
        self._timeout_s = timeout_s
        self._closed = False

    async def start(self) -> None:
        """Connect. A database that cannot be reached is only noted in the link: it may come later.

        Raises:
            ConfigError: the settings cannot be used, so waiting would not help.
        """
        self._check_settings()
        try:
            await self.run(_ask, write=False)
        except StoreUnavailable:  # in the link and in the log by now
            return

    async def ping(self) -> None:
        """Ask something, whatever the link thinks; any error means that the database cannot be used."""
        try:
            await self._wait(self._submit(_ask, False))
        except DatabaseFailed as failed:
            raise failed.reason from None

    async def run(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        """See `Database.run`. If the awaiting task is cancelled the transaction still ends in its thread."""
        self._admit(write)
        try:
            result = await self._wait(self._submit(work, write))
        except DatabaseFailed as failed:
            raise self._failed(failed) from failed.reason
        self._worked(write)
        return result

    def run_sync(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        """`run` for commands, where there is no event loop."""
        try:
            return self._submit(work, write).result()
        except DatabaseFailed as failed:
            raise self._failed(failed) from failed.reason

    async def close(self) -> None:
        """Let what was begun end, and close every connection."""
        await asyncio.get_running_loop().run_in_executor(None, self.close_sync)

    def close_sync(self) -> None:
        """`close` for commands; blocks."""
        if not self._closed:
            self._closed = True
            self._end()

    @abstractmethod
    def _end(self) -> None:
        """End the threads once they have done what they were given, and close every connection."""

    @abstractmethod
    def _check_settings(self) -> None:
        """Raise ConfigError for what the operator must mend."""

    @abstractmethod
    def _lane(self, write: bool) -> Executor:
        """Whose threads do this."""

    @abstractmethod
    def _attempt(self, work: Callable[[Session], T], write: bool) -> T:
        """One transaction, in a thread; raises `TryAgain`, `DatabaseFailed`, or what `work` raised."""

    def _admit(self, write: bool) -> None:
        self._link.check()

    def _worked(self, write: bool) -> None:
        self._link.worked()

    def _failed(self, failed: DatabaseFailed) -> StoreUnavailable:
        return self._link.failed(failed.reason, slow=failed.slow)

    def _submit(self, work: Callable[[Session], T], write: bool) -> Future[T]:
        if self._closed:
            raise StoreUnavailable("the database is closed")
        deadline = self._clock.monotonic() + self._timeout_s
        return self._lane(write).submit(self._persist, work, write, deadline)

    async def _wait(self, future: Future[T]) -> T:
        """One that has not begun when the time is up never will; one that has ends in its thread."""
        try:
            async with asyncio.timeout(self._timeout_s) as timer:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not timer.expired():
                raise  # the work's own
            late = TimeoutError(f"no answer within {self._timeout_s:g} s")
            raise DatabaseFailed(late, slow=True) from error

    def _persist(self, work: Callable[[Session], T], write: bool, deadline: float) -> T:
        pause = PAUSE_MIN_S
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(work, write)
            except TryAgain as error:
                if attempt == ATTEMPTS - 1 or self._clock.monotonic() >= deadline:
                    raise DatabaseFailed(error.reason, slow=True) from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, PAUSE_MAX_S)
        raise AssertionError("unreachable")  # pragma: no cover


def _ask(session: Session) -> None:
    session.row("SELECT 1")
