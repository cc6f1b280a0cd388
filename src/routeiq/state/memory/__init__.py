"""Every store in one process's memory: for tests, and where nothing has to be shared or kept."""

from .audit import MemoryAudit
from .board import MemoryBoard
from .conversations import MemoryConversations
from .counters import MemoryCounters
from .decisions import MemoryDecisions
from .directory import MemoryDirectory
from .documents import MemoryDocuments
from .events import MemoryEvents
from .leases import MemoryLeases
from .limits import MemoryLimits
from .roster import MemoryRoster

__all__ = [
    "MemoryAudit",
    "MemoryBoard",
    "MemoryConversations",
    "MemoryCounters",
    "MemoryDecisions",
    "MemoryDirectory",
    "MemoryDocuments",
    "MemoryEvents",
    "MemoryLeases",
    "MemoryLimits",
    "MemoryRoster",
]
