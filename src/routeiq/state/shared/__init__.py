"""The shared stores in SQL, for where there is no Redis; events are the dialect's own."""

from .board import SqlBoard
from .conversations import SqlConversations
from .counters import SqlCounters
from .events_postgres import PostgresEvents
from .events_sqlite import SqliteEvents
from .leases import SqlLeases
from .limits import SqlLimits

__all__ = [
    "PostgresEvents",
    "SqlBoard",
    "SqlConversations",
    "SqlCounters",
    "SqlLeases",
    "SqlLimits",
    "SqliteEvents",
]
