"""One connection to PostgreSQL through psycopg: how it is made, bounded, checked, and what its errors mean.

The only module of the state layer that imports psycopg, which is an extra.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from routeiq.exceptions import ConfigError, Problem
from routeiq.ports import Clock
from routeiq.values import value

from .database import Row
from .migrate import APPLIED, load, require_current

RV = TypeVar("RV")
Verdict = Literal["again", "lost", "slow", "theirs"]
SPARE_S = 1.0
"""The client waits this much longer than the server, whose own time-out says more."""
SCHEMES = ("postgresql", "postgres")
UNDEFINED_TABLE = "42P01"
AGAIN = {"40001", "40P01"}  # serialisation failure, deadlock
SLOW = {"57014", "55P03"}  # statement_timeout, lock_timeout
READ_ONLY = "25006"  # a standby, unless it was we who asked for it
UNUSABLE = {READ_ONLY, "25P03", "42501"}  # the others: idle in a transaction, no permission
UNUSABLE_CLASSES = {"08", "28", "3D", "53", "57", "58", "XX"}


@value
class Settings:
    """What DATABASE_URL says. `pooled`: PgBouncer is between, so nothing may outlast a transaction."""

    url: str
    secrets: tuple[str, ...]
    pooled: bool
    timeout_s: float

    @property
    def milliseconds(self) -> int:
        """The time-out, for the server."""
        return max(1, int(self.timeout_s * 1000))


def settings_of(url: str, timeout_s: float) -> Settings:
    """Read a URL; `pgbouncer=true` in its query is ours, the rest is libpq's.

    Raises:
        ConfigError: it is not a URL of PostgreSQL. The message does not have it: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        scheme = parts.scheme.partition("+")[0]
        if scheme not in SCHEMES:
            raise ValueError("scheme")
        secrets = [text for name, text in query if name == "password"]
        secrets += [parts.password, unquote(parts.password)] if parts.password else []
        kept = [pair for pair in query if pair[0] != "pgbouncer"]
        plain = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept), ""))
        conninfo_to_dict(plain)
    except (ValueError, psycopg.Error):
        raise ConfigError(
            [
                Problem(
                    key="DATABASE_URL",
                    message="this is a URL of neither PostgreSQL nor SQLite.",
                    fix="Write postgresql://user:password@host:5432/database, with special characters of "
                    "the password percent-encoded, or sqlite:///file.",
                )
            ]
        ) from None
    return Settings(
        url=plain,
        secrets=tuple(text for text in secrets if text),
        pooled=("pgbouncer", "true") in query,
        timeout_s=timeout_s,
    )


class Connection(psycopg.Connection[Row]):
    """Gives up waiting for a server that stopped answering, which no time-out of the server can end."""

    clock: Clock
    patience_s: float

    def wait(self, gen: Generator[Any, Any, RV], *args: Any, **kwargs: Any) -> RV:
        """See psycopg; bounded."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, RV]) -> Generator[Any, Any, RV]:
        deadline = self.clock.monotonic() + self.patience_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # psycopg says so every 0.1 s, ready or not
                if not ready and self.clock.monotonic() > deadline:
                    raise psycopg.errors.ConnectionTimeout("the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


def connect(settings: Settings, clock: Clock, *, bounded: bool = True) -> Connection:
    """A new connection in autocommit mode; not `bounded`: statements may take as long as they like."""
    given = conninfo_to_dict(settings.url)
    options = str(given.pop("options", None) or "")
    if bounded and not settings.pooled:
        options += f" -c statement_timeout={settings.milliseconds}"
        options += " -c idle_in_transaction_session_timeout=60000"
    defaults: dict[str, Any] = {
        "application_name": "routeiq",
        "client_encoding": "UTF8",
        "connect_timeout": max(2, math.ceil(settings.timeout_s)),
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": settings.milliseconds + int(SPARE_S * 1000),
    }
    connection = Connection.connect(
        **{**defaults, **given, **({"options": options.strip()} if options else {})},
        autocommit=True,
        prepare_threshold=None if settings.pooled else 5,
    )
    connection.clock = clock
    connection.patience_s = settings.timeout_s + SPARE_S if bounded else math.inf
    return connection


def applied(connection: psycopg.Connection[Row]) -> list[Row] | None:
    """Which migrations the database has; `None` where it has never seen one."""
    try:
        return connection.execute(APPLIED).fetchall()
    except psycopg.errors.UndefinedTable:
        return None


def check_schema(connection: psycopg.Connection[Row]) -> None:
    """Raise SchemaMismatch unless the schema is the one that this version needs."""
    require_current(load("postgresql"), applied(connection))


def verdict(error: psycopg.Error, *, writing: bool) -> Verdict:
    """What to do: try `again`, drop the connection (`lost`), report it (`slow`), or it is `theirs` who asked."""
    state = error.sqlstate
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return "lost"
    if state is None:
        lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return "lost" if lost else "theirs"
    if state == READ_ONLY and not writing:
        return "theirs"
    if state in AGAIN:
        return "again"
    if state in SLOW:
        return "slow"
    return "lost" if state in UNUSABLE or state[:2] in UNUSABLE_CLASSES else "theirs"


def scrubbed(error: psycopg.Error, settings: Settings) -> Exception:
    """The same error without the password, on one line."""
    text = " ".join(str(error).split())
    for secret in settings.secrets:
        text = text.replace(secret, "***")
    return type(error)(text)
