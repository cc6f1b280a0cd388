from __future__ import annotations

from typing import Any, cast

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.gateway.retention import Pruned, prune
from routeiq.state.decisions import DecisionLedger
from routeiq.stores import Audit
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
DAY = 86_400.0


class Calls:
    """Stands for both stores."""

    def __init__(self, **fails: Exception) -> None:
        self.fails = fails
        self.made: list[tuple[str, float]] = []

    def _note(self, name: str, at: float) -> int:
        self.made.append((name, at))
        if name in self.fails:
            raise self.fails[name]
        return 7

    async def prepare(self, now_s: float) -> None:
        self._note("prepare", now_s)

    async def prune(self, before_s: float) -> int:
        return self._note("prune", before_s)


async def run(decisions: Calls, audit: Calls, clock: FakeClock, **days: Any) -> Pruned:
    return await prune(cast(DecisionLedger, decisions), cast(Audit, audit), clock=clock, **days)


async def test_audit_rows_stay_for_ever_unless_asked(clock: FakeClock) -> None:
    decisions, audit = Calls(), Calls()
    assert await run(decisions, audit, clock, retention_days=30.0) == Pruned(records=7)
    assert decisions.made == [("prepare", clock.wall()), ("prune", clock.wall() - 30 * DAY)]
    assert audit.made == []


async def test_both_have_times_of_their_own(clock: FakeClock) -> None:
    decisions, audit = Calls(), Calls()
    done = await run(decisions, audit, clock, retention_days=0.5, audit_retention_days=365.0)
    assert done == Pruned(records=7, audit=7)
    assert decisions.made[1] == ("prune", clock.wall() - 0.5 * DAY)
    assert audit.made == [("prune", clock.wall() - 365 * DAY)]


async def test_old_records_go_although_partitions_cannot_be_made(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    decisions = Calls(prepare=PermissionError("no"))
    assert (await run(decisions, Calls(), clock, retention_days=1.0)).records == 7
    assert caplog.records[0].message == "partitions of the decision log cannot be made"


async def test_a_database_that_is_down_ends_the_job(clock: FakeClock) -> None:
    decisions = Calls(prepare=StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await run(decisions, Calls(), clock, retention_days=1.0)
    assert len(decisions.made) == 1
