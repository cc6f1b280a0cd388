"""Several callers, one computation: items that arrive while a thread is busy are computed together.

The event loop never waits for the computation: it runs in threads of its own, and the loop only hands over lists
and wakes callers. No task is left running: a batch starts when an item arrives or when the batch before it ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")

NICENESS = 5
"""By how much the threads yield to others. On a machine without an idle core the event loop would else wait for
the end of a thread's time slice, some 4 ms, whenever both want the same core."""


class MicroBatcher(Generic[T, R]):
    """Runs a function over lists of items in a thread. For one event loop; not thread-safe.

    The queue is bounded: an item that finds it full is refused at once, because its caller has something
    quicker to fall back on. Equal items that are queued or being computed are computed once.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        *,
        max_batch: int = 8,
        max_wait_ms: float = 2.0,
        max_queue: int = 64,
        threads: int = 1,
    ) -> None:
        """Store; threads start with the first item.

        Args:
            run: from items to as many results, in their order. With more than one thread it must be thread-safe.
            max_batch: items that are computed together at most.
            max_wait_ms: how long an item waits for others while a thread is idle; 0 to start at once.
            max_queue: items that may wait for a thread.
            threads: batches that are computed at the same time.
        """
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._max_queue = max_queue
        self._idle = threads
        self._threads = ThreadPoolExecutor(threads, "routeiq-batch", initializer=_yield_to_others)
        self._waiting: dict[T, _Entry[R]] = {}
        self._running: dict[T, _Entry[R]] = {}
        self._timer: TimerHandle | None = None
        self._closed = False
        self.batches = 0
        """Batches that were started."""
        self.items = 0
        """Items in them."""
        self.refused = 0
        """Items that found the queue full, or the batcher closed."""

    @property
    def full(self) -> bool:
        """Whether an item would be refused now."""
        return self._closed or len(self._waiting) >= self._max_queue

    async def submit(self, item: T) -> R | None:
        """The result for an item; `None` at once if the queue is full or the batcher closed.

        A caller that is cancelled takes nothing from others who wait for the same item. An item that nobody waits
        for any more is dropped if it has not been started.

        Raises:
            Exception: what `run` raised for the item's batch.
        """
        entry = self._waiting.get(item) or self._running.get(item)
        if entry is None:
            if self.full:
                self.refused += 1
                return None
            loop = asyncio.get_running_loop()
            entry = self._waiting[item] = _Entry(loop.create_future())
            self._arm(loop)
        entry.callers += 1
        try:
            return await asyncio.shield(entry.future)
        finally:
            entry.callers -= 1
            if not entry.callers and self._waiting.get(item) is entry:
                del self._waiting[item]

    def close(self) -> None:
        """Refuse what comes, answer what waits with `None`. What is being computed is still delivered."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for entry in self._waiting.values():
            entry.future.set_result(None)
        self._waiting.clear()
        self._threads.shutdown(wait=False)

    def _arm(self, loop: AbstractEventLoop) -> None:
        """Start a batch if a thread is idle: now if it is full or need not wait, else soon."""
        if not self._idle or not self._waiting:
            return
        if len(self._waiting) >= self._max_batch or not self._max_wait_s:
            self._start(loop)
        elif self._timer is None:
            self._timer = loop.call_later(self._max_wait_s, self._start, loop)

    def _start(self, loop: AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = list(islice(self._waiting, self._max_batch))
        if not batch:
            return
        for item in batch:
            self._running[item] = self._waiting.pop(item)
        self._idle -= 1
        self.batches += 1
        self.items += len(batch)
        done = loop.run_in_executor(self._threads, self._run, batch)
        done.add_done_callback(lambda future: self._deliver(loop, batch, future))

    def _deliver(self, loop: AbstractEventLoop, batch: list[T], done: Future[Sequence[R]]) -> None:
        self._idle += 1
        if not self._closed and self._waiting and self._idle:
            self._start(loop)  # they have waited for the thread already
        entries = [self._running.pop(item) for item in batch]
        error = done.exception()
        results = () if error else done.result()
        if not error and len(results) != len(batch):
            error = ValueError(f"{len(batch)} items gave {len(results)} results.")
        for index, entry in enumerate(entries):
            entry.settle(None if error else results[index], error)


def _yield_to_others() -> None:
    """Lower the priority of this thread; only Linux has one for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, now + NICENESS)


class _Entry(Generic[R]):
    """One item: its result to come, and how many wait for it."""

    __slots__ = ("callers", "future")

    def __init__(self, future: Future[R | None]) -> None:
        self.future = future
        self.callers = 0

    def settle(self, result: R | None, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif self.callers:
            self.future.set_exception(error)
        else:
            self.future.cancel()  # nobody is there to take an exception
