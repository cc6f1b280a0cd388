"""Noticing that the client left while we wait for a provider, and stopping the work at once."""

from __future__ import annotations

import asyncio

from routeiq.gateway.asgi import Receive


class Disconnect:
    """Cancels the current task when the client disconnects before `ended` was called.

    Must be created in the task that handles the request. `ended` comes before the last byte is sent,
    because a server also reports the end of a complete exchange as a disconnect.
    """

    __slots__ = ("_receive", "_task", "_watcher", "happened")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.happened = False

    def watch(self) -> None:
        """Start watching; the request's body must have been read."""
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.happened = True
            self._task.cancel()

    def ended(self) -> None:
        """The exchange is complete, or about to be: stop watching. May be called twice."""
        self._task = None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def absorb(self) -> None:
        """Take the cancellation that we caused off the task, so that it ends normally."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
