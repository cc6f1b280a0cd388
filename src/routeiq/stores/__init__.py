"""What must survive a restart or be shared between workers and hosts, as Protocols; see `routeiq.state`.

Two families. The *ledgers* (`Directory`, `Documents`, `Audit`, `Decisions`, `Roster`) are durable: SQLite or
PostgreSQL. The *shared* ones (`Limits`, `Counters`, `Board`, `Conversations`, `Leases`, `Events`) are fast: Redis,
or the same database where there is none, or memory in tests.

Every method may raise `StoreUnavailable`: the store cannot be reached, or did not answer in time. Then nobody
knows whether a write took place; `Counters.apply` and `Limits.adjust` are idempotent: they are simply sent again.
Integers are exact: money is counted in nano-USD (1e-9 USD), so no float is ever added up in a store.
"""

from __future__ import annotations

from .ledgers import (
    Audit,
    Change,
    Decisions,
    Directory,
    Document,
    Documents,
    Entity,
    EntityKind,
    Roster,
    Worker,
)
from .shared import (
    Ask,
    Board,
    BucketKind,
    Conversations,
    Counters,
    Delta,
    Events,
    Grant,
    Lease,
    Leases,
    Limits,
    Notice,
    OnEvent,
    Reservation,
)

NANO = 1_000_000_000
"""Nano-USD in one USD."""

__all__ = [
    "NANO",
    "Ask",
    "Audit",
    "Board",
    "BucketKind",
    "Change",
    "Conversations",
    "Counters",
    "Decisions",
    "Delta",
    "Directory",
    "Document",
    "Documents",
    "Entity",
    "EntityKind",
    "Events",
    "Grant",
    "Lease",
    "Leases",
    "Limits",
    "Notice",
    "OnEvent",
    "Reservation",
    "Roster",
    "Worker",
]
