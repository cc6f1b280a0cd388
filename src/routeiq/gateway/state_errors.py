"""What a caller of the admin API is told while a store is down."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from routeiq.exceptions import StateUnavailable, StoreUnavailable

T = TypeVar("T")


async def unavailable(work: Awaitable[T]) -> T:
    """The result of `work`.

    Raises:
        StateUnavailable: its store is down; nothing of the store's address is said.
    """
    try:
        return await work
    except StoreUnavailable as error:
        raise StateUnavailable(
            "The store that this needs cannot be reached; nothing is known to have changed. Try again.",
            retry_after_s=1.0,
        ) from error
