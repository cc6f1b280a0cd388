"""PostgreSQL's backends are killed while decisions are written: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.state.decisions import SqlDecisions
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.types import Decision, Outcome, Ranked
from tests.support.clock import FakeClock
from tests.support.routing import CHEAP, request
from tests.unit.state.decisions.conftest import SERVER, Opened
from tests.unit.state.decisions.records import START, ids

RECORDS = 2_500
KILLS = 4
DECISION = Decision(
    id="d",
    requested="auto",
    strategy="prior",
    reason="",
    ranking=(Ranked(deployment=CHEAP, score=0.5, utility=0.5),),
)
OUTCOME = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


def kill(url: str) -> int:
    import psycopg

    name = url.rsplit("/", 1)[1]
    with psycopg.connect(SERVER, autocommit=True) as admin:
        found = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        ).fetchone()
    return int(found[0]) if found else 0


async def flushed(store: DecisionStore, database: Opened) -> None:
    """Write until all is written; come back as `Link.run` does, only at once."""
    while len(store):
        try:
            await store.flush()
        except StoreUnavailable:
            await recovered(database)


async def recovered(database: Opened) -> None:
    while not database._link.up:
        try:
            await database.ping()
        except Exception:
            continue
        database._link.worked()


@pytest.mark.anyio
async def test_killed_connections_lose_and_double_nothing(
    decisions: SqlDecisions, database: Opened, database_url: str
) -> None:
    store = DecisionStore(decisions, queue=RECORDS, flush_s=1.0, clock=FakeClock())
    for number in range(RECORDS):
        record: dict[str, Any] = {"decision_id": f"{number:024x}", "time": START + number}
        store.add(record, request("hi"), DECISION, OUTCOME)
    writing = asyncio.create_task(flushed(store, database))
    killed = 0
    for _ in range(KILLS):
        killed += await asyncio.to_thread(kill, database_url)
    await writing
    assert killed >= 1
    assert (store.written, store.dropped, store.unusable) == (RECORDS, 0, 0)
    found = await decisions.search({}, limit=2 * RECORDS)
    assert ids(found) == list(range(RECORDS - 1, -1, -1))
