"""The public checks of `Decisions`, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from routeiq.state.decisions import SqlDecisions
from routeiq.store_checks import Connected, StoreCheck, Stores, store_checks
from tests.support.clock import FakeClock
from tests.unit.state.decisions.conftest import open_database


@pytest.mark.anyio
@pytest.mark.parametrize("check", store_checks("decisions"), ids=lambda check: check.__name__)
async def test_decisions_keep_what_stores_promise(check: StoreCheck, database_url: str) -> None:
    @asynccontextmanager
    async def two_workers() -> AsyncIterator[Connected]:
        opened = [open_database(database_url, FakeClock()) for _ in range(2)]
        try:
            for one in opened:
                await one.start()
            first, second = (Stores(decisions=SqlDecisions(one, pause_s=0.0)) for one in opened)
            yield Connected(first=first, second=second)
        finally:
            for one in opened:
                await asyncio.to_thread(one.close_sync)

    await check(two_workers)
