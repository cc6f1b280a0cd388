"""The durable ledgers in SQL: each change and its audit row are one transaction."""

from .audit import SqlAudit
from .directory import SqlDirectory
from .documents import SqlDocuments
from .roster import SqlRoster

__all__ = ["SqlAudit", "SqlDirectory", "SqlDocuments", "SqlRoster"]
