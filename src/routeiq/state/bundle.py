"""All stores of one worker, from DATABASE_URL and REDIS_URL. Drivers are imported where they are named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from routeiq.config.state import State as Section
from routeiq.ports import Clock
from routeiq.stores import (
    Audit,
    Board,
    Conversations,
    Counters,
    Directory,
    Documents,
    Events,
    Leases,
    Limits,
    Roster,
)

from .link import Link
from .location import is_sqlite, sqlite_path

if TYPE_CHECKING:
    from .decisions import DecisionLedger
    from .postgres import PostgresDatabase
    from .sqlite import SqliteDatabase

    SqlDatabase = SqliteDatabase | PostgresDatabase

Ping = Callable[[], Awaitable[object]]


@dataclass(slots=True, kw_only=True)
class State:
    """The stores, and whether they can be reached.

    `spending` keeps budgets durable where `limits` is not; `links` maps the names that readiness shows to their
    state. `start` before use, `run` for as long as they are used, `close` at the end.
    """

    directory: Directory
    documents: Documents
    audit: Audit
    roster: Roster
    decisions: DecisionLedger | None
    limits: Limits
    counters: Counters
    board: Board
    conversations: Conversations
    leases: Leases
    events: Events
    spending: Counters | None = None
    links: dict[str, tuple[Link, Ping]] = field(default_factory=dict)
    starts: list[Ping] = field(default_factory=list)
    closes: list[Ping] = field(default_factory=list)
    prunes: list[Ping] = field(default_factory=list)

    async def start(self) -> None:
        """Connect. What cannot be reached is noted in its link and tried again by `run`."""
        await asyncio.gather(*(start() for start in self.starts))

    async def run(self) -> None:
        """Notice outages and recoveries until cancelled."""
        await asyncio.gather(*(link.run(ping) for link, ping in self.links.values()))

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(close() for close in self.closes), return_exceptions=True)

    def reports(self) -> dict[str, dict[str, Any]]:
        """The state of each store, by its name."""
        return {name: link.report() for name, (link, _) in self.links.items()}

    def listening(self) -> bool:
        """Whether announcements arrive, as far as is known."""
        return bool(getattr(self.events, "listening", True))

    async def prune(self) -> None:
        """Delete what has expired where a store does not by itself.

        Raises:
            StoreUnavailable: the rest is deleted the next time.
        """
        await self.conversations.prune()
        for one in self.prunes:
            await one()


def memory_state(clock: Clock) -> State:
    """Stores of one process, for tests and dry runs: nothing is kept, and decisions stay in the worker's log."""
    from .memory.audit import MemoryAudit
    from .memory.board import MemoryBoard
    from .memory.conversations import MemoryConversations
    from .memory.counters import MemoryCounters
    from .memory.directory import MemoryDirectory
    from .memory.documents import MemoryDocuments
    from .memory.events import MemoryEvents
    from .memory.leases import MemoryLeases
    from .memory.limits import MemoryLimits
    from .memory.roster import MemoryRoster

    audit, events = MemoryAudit(clock), MemoryEvents()
    return State(
        directory=MemoryDirectory(clock, audit, events),
        documents=MemoryDocuments(clock, audit, events),
        audit=audit,
        roster=MemoryRoster(clock),
        decisions=None,
        limits=MemoryLimits(clock),
        counters=MemoryCounters(),
        board=MemoryBoard(clock, events),
        conversations=MemoryConversations(clock),
        leases=MemoryLeases(clock),
        events=events,
    )


def open_state(
    *, database_url: str, redis_url: str | None, section: Section, clock: Clock
) -> State:
    """The stores that the settings name. Nothing is connected before `start`.

    Raises:
        ConfigError: a URL cannot be used, or its driver is not installed.
    """
    link = Link("database", clock)
    if is_sqlite(database_url):
        state = sqlite_state(database_url, link, section, clock)
    else:
        state = postgres_state(database_url, link, section, clock)
    if redis_url:
        use_redis(state, redis_url, section, clock)
    return state


def sqlite_state(url: str, link: Link, section: Section, clock: Clock) -> State:
    """Everything in one file.

    What must survive a power failure (keys, control state, audit) is on the disk before it is acknowledged; the
    rest is written without waiting for the disk, which a killed process survives too and which costs a third.
    """
    from .shared.events_sqlite import SqliteEvents
    from .sqlite import SqliteDatabase

    path, timeout_s = sqlite_path(url), section.database_timeout_s
    ledger = SqliteDatabase(path, link=link, clock=clock, timeout_s=timeout_s)
    shared = Link("shared", clock)
    quick = SqliteDatabase(path, link=shared, clock=clock, timeout_s=timeout_s, durable=False)
    return State(
        **ledgers(ledger),
        **shared_stores(quick),
        events=SqliteEvents(quick),
        links={"database": (link, ledger.ping), "shared": (shared, quick.ping)},
        starts=[ledger.start, quick.start],
        closes=[quick.close, ledger.close],
    )


def postgres_state(url: str, link: Link, section: Section, clock: Clock) -> State:
    """Everything in PostgreSQL."""
    from .postgres import PostgresDatabase
    from .shared.events_postgres import PostgresEvents

    database = PostgresDatabase(
        url,
        link=link,
        clock=clock,
        timeout_s=section.database_timeout_s,
        pool_size=section.database_pool_size,
    )
    return State(
        **ledgers(database),
        **shared_stores(database),
        events=PostgresEvents(database, url),
        links={"database": (link, database.ping)},
        starts=[database.start],
        closes=[database.close],
    )


def ledgers(database: SqlDatabase) -> dict[str, Any]:
    """What must be durable."""
    from .ledgers import SqlAudit, SqlDirectory, SqlDocuments, SqlRoster

    return {
        "directory": SqlDirectory(database),
        "documents": SqlDocuments(database),
        "audit": SqlAudit(database),
        "roster": SqlRoster(database),
    }


def shared_stores(database: SqlDatabase) -> dict[str, Any]:
    """What workers share, where there is no Redis; and the decisions."""
    from .decisions import SqlDecisions
    from .shared import SqlBoard, SqlConversations, SqlCounters, SqlLeases, SqlLimits

    limits = SqlLimits(database)
    return {
        "decisions": SqlDecisions(database),
        "limits": limits,
        "prunes": [limits.prune],
        "counters": SqlCounters(database),
        "board": SqlBoard(database),
        "conversations": SqlConversations(database),
        "leases": SqlLeases(database),
    }


def use_redis(state: State, url: str, section: Section, clock: Clock) -> None:
    """Let Redis serve what workers share; budgets are written to the database too, for Redis may forget.

    Raises:
        ConfigError: the URL cannot be used, or the driver is not installed.
    """
    from .redis import connect

    link = Link("redis", clock)
    connection = connect(
        url,
        link=link,
        timeout_s=section.redis_timeout_s,
        connect_timeout_s=section.redis_connect_timeout_s,
        pool_size=section.redis_pool_size,
    )
    from .redis.board import RedisBoard
    from .redis.conversations import RedisConversations
    from .redis.counters import RedisCounters
    from .redis.events import RedisEvents
    from .redis.leases import RedisLeases
    from .redis.limits import RedisLimits

    state.spending = state.counters
    state.events = events = RedisEvents(connection)
    state.limits = RedisLimits(connection)
    state.counters = RedisCounters(connection)
    state.board = RedisBoard(connection, events)
    state.conversations = RedisConversations(connection)
    state.leases = RedisLeases(connection)
    state.links["redis"] = (link, connection.ping)
    state.closes.append(connection.close)
