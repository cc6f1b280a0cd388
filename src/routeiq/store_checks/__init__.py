"""What every store promises, as checks: third parties run the same ones as this repository.

    @asynccontextmanager
    async def two_workers():
        yield Connected(first=Stores(counters=await connect()), second=Stores(counters=await connect()))

    @pytest.mark.anyio
    @pytest.mark.parametrize("check", store_checks("counters"))
    async def test_my_counters(check):
        await check(two_workers)

A check takes a factory: each call opens two independent connections to a new, empty store, and closes them when
its context ends. It raises `AssertionError` with what was expected. Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import board, conversations, counters, events, leases, ledgers, limits, records, windows
from .connections import Connected, StoreCheck, StoreFactory, StoreName, Stores

__all__ = [
    "LEDGERS",
    "SHARED",
    "Connected",
    "StoreCheck",
    "StoreFactory",
    "StoreName",
    "Stores",
    "store_checks",
]

LEDGERS: tuple[StoreName, ...] = ("directory", "documents", "audit", "roster", "decisions")
"""What must be durable."""
SHARED: tuple[StoreName, ...] = (
    "limits",
    "counters",
    "board",
    "conversations",
    "leases",
    "events",
)
"""What must be fast."""

_CHECKS: Mapping[StoreName, tuple[StoreCheck, ...]] = {
    "directory": ledgers.DIRECTORY,
    "documents": ledgers.DOCUMENTS,
    "audit": records.AUDIT,
    "roster": records.ROSTER,
    "decisions": records.DECISIONS,
    "limits": limits.CHECKS + windows.CHECKS,
    "counters": counters.CHECKS,
    "board": board.CHECKS,
    "conversations": conversations.CHECKS,
    "leases": leases.CHECKS,
    "events": events.CHECKS,
}


def store_checks(*names: StoreName) -> list[StoreCheck]:
    """Every check for these stores, or for all of them."""
    return [check for name in names or tuple(_CHECKS) for check in _CHECKS[name]]
