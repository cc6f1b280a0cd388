"""`routeiq.state`, `routeiq.affinity` and `routeiq.decisions`: how what is shared and kept is used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, NonNegative, Seconds, Section


class State(Section):
    """Time-outs, pools and leases of the stores that DATABASE_URL and REDIS_URL name."""

    redis_timeout_s: Seconds = 0.25
    """For one command; a request that needs an answer waits no longer."""
    redis_connect_timeout_s: Seconds = 1.0
    """For a connection to be made."""
    redis_pool_size: Count = 16
    """Connections per worker; more commands at once wait for one."""
    database_timeout_s: Seconds = 5.0
    """For one statement."""
    database_pool_size: Count = 4
    """Connections (and threads) per worker to PostgreSQL."""
    lease_s: Annotated[float, Field(ge=1.0)] = 30.0
    """How long a job that runs once stays with a worker that died (decision 3)."""
    reread_s: Seconds = 5.0
    """How often control state is read again although nobody announced a change; each half second while
    announcements do not work."""
    flush_s: Seconds = 0.1
    """How often counters and settlements are written."""
    key_cache_size: Count = 50_000
    """Verified keys that a worker remembers."""
    key_grace_s: NonNegative = 600.0
    """How long remembered keys are honoured while the database cannot be asked; then they are refused."""


class Affinity(Section):
    """A conversation stays with the deployment that answered it, because that has the prompt in its cache."""

    enabled: bool = True
    """Off: every turn is routed afresh."""
    ttl_s: Seconds = 1800.0
    """A conversation is forgotten this long after its last turn."""
    size: Count = 200_000
    """Conversations that a worker remembers; the others are looked up in the shared store."""


class DecisionStore(Section):
    """One record a request in the database, beside the files of `routeiq.learning.decision_log`."""

    store: bool = True
    """Off: records stay in the worker's memory, and feedback works for the last ones only."""
    queue: Count = 20_000
    """Records that wait for the database; beyond it the oldest are dropped, and counted."""
    flush_s: Seconds = 0.5
    """How often a batch is written."""
    retention_days: Annotated[float, Field(gt=0.0)] = 30.0
    """Records and feedback are deleted after this time."""
    audit_retention_days: Annotated[float, Field(gt=0.0)] | None = None
    """Audit rows are deleted after this time; never by default."""
    features: Literal["none", "summary", "vector"] = "summary"
    """What is kept of the prompt: nothing, its lengths and hash, or the routing features too."""
    text: bool = False
    """Keep the prompt's text. Off by default."""
