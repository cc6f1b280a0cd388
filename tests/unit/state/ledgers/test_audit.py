from __future__ import annotations

import pytest

from routeiq.state.database import Database
from routeiq.state.ledgers import SqlAudit
from routeiq.stores import Change


@pytest.fixture
def audit(database: Database) -> SqlAudit:
    return SqlAudit(database)


@pytest.mark.anyio
async def test_rows_come_newest_first_in_pages(audit: SqlAudit) -> None:
    for number in range(5):
        await audit.add(Change(actor="admin", action="reload", target=f"{number}"))
    page = await audit.latest(limit=2)
    assert [row["target"] for row in page] == ["4", "3"]
    assert (page[0]["details"], page[0]["request_id"]) == (None, None)
    page = await audit.latest(limit=2, before=page[-1]["id"])
    assert [row["target"] for row in page] == ["2", "1"]
    assert await audit.latest(before=1) == []


@pytest.mark.anyio
async def test_what_is_older_is_deleted_and_its_ids_are_not_used_again(audit: SqlAudit) -> None:
    for number in range(3):
        await audit.add(Change(actor="admin", action="reload", target=f"{number}"))
    newest = (await audit.latest())[0]
    assert await audit.prune(newest["time"] - 3600) == 0
    assert await audit.prune(newest["time"] + 1) == 3
    await audit.add(Change(actor="admin", action="reload", target="again"))
    assert [row["id"] for row in await audit.latest()] == [4]
