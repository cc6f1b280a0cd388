"""Noticing that the client left while we wait for a provider, and stopping the work at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from routeiq.gateway.asgi import Scope

SCOPE_KEY = "routeiq.connection"


class Connection(Protocol):
    """What the server's protocol offers: a call when the connection is lost. Costs nothing until then.

    ASGI's own way, a task that awaits `receive`, costs 15 microseconds a request.
    """

    on_disconnect: Callable[[], None] | None

    def gone(self) -> bool:
        """Whether the connection was lost already."""
        ...


class Disconnect:
    """Cancels the current task when the client disconnects before `ended` was called."""

    __slots__ = ("_connection", "_task", "happened")

    def __init__(self, scope: Scope) -> None:
        self._connection: Connection | None = scope.get(SCOPE_KEY)
        self._task: asyncio.Task[object] | None = None
        self.happened = False

    def watch(self) -> None:
        """Start watching, in the task that handles the request."""
        if self._connection is None:
            return
        self._task = asyncio.current_task()
        self._connection.on_disconnect = self._lost
        if self._connection.gone():
            self._lost()

    def _lost(self) -> None:
        if self._task is not None:
            self.happened = True
            self._task.cancel()

    def ended(self) -> None:
        """The exchange is over, or about to be: stop watching. May be called twice."""
        self._task = None
        if self._connection is not None:
            self._connection.on_disconnect = None
            self._connection = None

    def absorb(self) -> None:
        """Take the cancellation that we caused off the task, so that it ends normally."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
