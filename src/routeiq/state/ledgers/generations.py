"""Counters that grow with each change, so that a worker knows with one small read whether it is up to date."""

from __future__ import annotations

from typing import Literal

from routeiq.state.database import Session

Ledger = Literal["keys", "control"]
BUMP = "UPDATE routeiq_generations SET value = value + 1 WHERE name = :name RETURNING value"
READ = "SELECT value FROM routeiq_generations WHERE name = :name"


def bump(session: Session, ledger: Ledger) -> int:
    """The next generation.

    Do this first: on PostgreSQL the row's lock lets one change of a ledger at a time through, so what is read
    afterwards stays true until the commit, and generations become visible in order.
    """
    return _value(session, BUMP, ledger)


def read(session: Session, ledger: Ledger) -> int:
    """The generation now."""
    return _value(session, READ, ledger)


def _value(session: Session, sql: str, ledger: Ledger) -> int:
    row = session.row(sql, {"name": ledger})
    if row is None:
        raise LookupError(f"routeiq_generations has no row for {ledger}")
    return int(row[0])
