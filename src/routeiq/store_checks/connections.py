"""What a store check is given: two workers' connections to one empty store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from routeiq.stores import (
    Audit,
    Board,
    Conversations,
    Counters,
    Decisions,
    Directory,
    Documents,
    Events,
    Leases,
    Limits,
    Roster,
)
from routeiq.values import value

StoreName = Literal[
    "directory",
    "documents",
    "audit",
    "roster",
    "decisions",
    "limits",
    "counters",
    "board",
    "conversations",
    "leases",
    "events",
]

ABSENT: Any = None
"""Stands for a store that is not checked, so that those that are need no test for `None`."""


@value
class Stores:
    """The stores of one worker. Give those whose checks you run.

    With `events`, changes to `directory`, `documents` and `board` must be announced there.
    """

    directory: Directory = ABSENT
    documents: Documents = ABSENT
    audit: Audit = ABSENT
    roster: Roster = ABSENT
    decisions: Decisions = ABSENT
    limits: Limits = ABSENT
    counters: Counters = ABSENT
    board: Board = ABSENT
    conversations: Conversations = ABSENT
    leases: Leases = ABSENT
    events: Events = ABSENT


async def real_sleep(seconds: float) -> None:
    """Let time pass where the store's clock cannot be moved."""
    await asyncio.sleep(seconds)


@value
class Connected:
    """Two independent connections to one store, as two workers have them.

    `sleep` lets the store's time pass: the default really waits (no check waits longer than a few seconds); give
    one that moves the store's clock where that can be done.
    """

    first: Stores
    second: Stores
    sleep: Callable[[float], Awaitable[None]] = real_sleep


StoreFactory = Callable[[], AbstractAsyncContextManager[Connected]]
StoreCheck = Callable[[StoreFactory], Awaitable[None]]


def require(condition: bool, message: str) -> None:
    """Fail with what was expected."""
    if not condition:
        raise AssertionError(message)


def same(got: object, expected: object, what: str) -> None:
    """Fail unless both are equal."""
    require(got == expected, f"{what}: expected {expected!r}, got {got!r}")
