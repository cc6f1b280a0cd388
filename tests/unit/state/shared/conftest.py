"""A SQLite file that a test's clock rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from routeiq.state.link import Link
from routeiq.state.sqlite import SqliteDatabase
from tests.support.clock import FakeClock


@pytest.fixture
async def database(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(
        tmp_path / "routeiq.db", link=Link("database", clock), clock=clock, timeout_s=30.0
    )
    await opened.start()
    yield opened
    await opened.close()
