"""The job that makes room for new decision records and deletes old ones; one worker of all runs it."""

from __future__ import annotations

import logging

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.state.decisions import DecisionLedger
from routeiq.stores import Audit
from routeiq.values import value

logger = logging.getLogger("routeiq.gateway")
EVERY_S = 3_600.0
"""How often the job is due."""
_DAY_S = 86_400.0


@value
class Pruned:
    """How many rows were deleted."""

    records: int
    audit: int = 0


async def prune(
    decisions: DecisionLedger,
    audit: Audit,
    *,
    clock: Clock,
    retention_days: float,
    audit_retention_days: float | None = None,
) -> Pruned:
    """Make the next days' partitions, delete old records and feedback, and old audit rows where that is asked for.

    Raises:
        StoreUnavailable: the database cannot be reached; what is left is done the next time.
    """
    now = clock.wall()
    try:
        await decisions.prepare(now)
    except StoreUnavailable:
        raise
    except (
        Exception
    ):  # fire-wall: a role that may not create tables must not keep old records for ever
        logger.exception("partitions of the decision log cannot be made")
    records = await decisions.prune(now - retention_days * _DAY_S)
    rows = 0
    if audit_retention_days is not None:
        rows = await audit.prune(now - audit_retention_days * _DAY_S)
    if records or rows:
        logger.info("old rows deleted", extra={"decisions": records, "audit": rows})
    return Pruned(records=records, audit=rows)
