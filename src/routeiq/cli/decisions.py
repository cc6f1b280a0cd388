"""`routeiq decisions list|show|export`: the decision log, straight from the database; no gateway is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

if TYPE_CHECKING:
    from routeiq.state.decisions import SqlDecisions

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
TIMEOUT_S = 60.0
"""For one statement: nobody else waits for it."""
_SHOWN = ("time", "decision_id", "key", "requested", "model", "strategy", "status", "cost_usd")
_database = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    default="sqlite:///routeiq.db",
    show_default=True,
    help="The gateway's database.",
)


def _time(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from routeiq.gateway.decision_query import time_of

    try:
        return None if text is None else time_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error


def _filters(command: Command) -> Command:
    """The options that say which decisions."""
    for name in ("key", "team", "model", "strategy", "outcome", "experiment", "variant"):
        command = click.option(f"--{name}", help=f"Only those of this {name}.")(command)
    command = click.option("--session", "session_id", help="Only those of this session.")(command)
    command = click.option("--status", type=int, help="Only those with this HTTP status.")(command)
    command = click.option("--until", callback=_time, help="Before this time.")(command)
    return click.option(
        "--since",
        callback=_time,
        help="From this time on: 2030-01-31T12:00 (UTC), or epoch seconds.",
    )(command)


@click.group()
def decisions() -> None:
    """Look at recorded decisions, and export them for replay and training."""


@decisions.command("list")
@_database
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
def list_(database_url: str, limit: int, as_json: bool, **query: Any) -> None:
    """The latest decisions that match, newest first."""
    found = _run(database_url, lambda store: store.search(_given(query), limit=limit))
    for one in found:
        click.echo(orjson.dumps(one).decode() if as_json else _line(one))


@decisions.command()
@_database
@click.argument("decision_id")
def show(database_url: str, decision_id: str) -> None:
    """One decision with its candidates, exclusions, attempts and feedback, as JSON."""
    found = _run(database_url, lambda store: store.get(decision_id))
    if found is None:
        raise click.ClickException(f"there is no decision {decision_id!r} in the database")
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


@decisions.command()
@_database
@_filters
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="jsonl is what `routeiq replay` and training read; parquet is for analysis.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File."
)
def export(database_url: str, form: str, out: Path, **query: Any) -> None:
    """Write all decisions that match, newest first, with their feedback.

    The file is whole or not there: it is written beside its place and then moved.
    """
    from routeiq.cli.decisions_files import write_jsonl, write_parquet

    write = write_jsonl if form == "jsonl" else write_parquet
    count = _run(database_url, lambda store: write(store, _given(query), out))
    click.echo(f"{out}: {count} decisions", err=True)


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _line(record: Mapping[str, Any]) -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(record["time"], UTC).isoformat(timespec="seconds")
    rest = ["-" if record.get(name) is None else str(record[name]) for name in _SHOWN[1:]]
    given = record.get("feedback")
    score = f"  score {given[-1]['score']:g}" if given else ""
    return "  ".join([at, *rest]) + score


def _run(url: str, work: Callable[[SqlDecisions], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with _opened(url) as store:
            return await work(store)

    return asyncio.run(whole())


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[SqlDecisions]:
    """The decision log; a SQLite file that is not there is not made."""
    from routeiq.ports import SystemClock
    from routeiq.state.decisions import SqlDecisions
    from routeiq.state.link import Link
    from routeiq.state.location import is_sqlite, sqlite_path
    from routeiq.state.postgres import PostgresDatabase
    from routeiq.state.sqlite import SqliteDatabase

    clock = SystemClock()
    link = Link("database", clock)
    opened: SqliteDatabase | PostgresDatabase
    if is_sqlite(url):
        path = sqlite_path(url)
        if not path.exists():
            raise click.ClickException(f"there is no database {path}; name it with --database-url")
        opened = SqliteDatabase(path, link=link, clock=clock, timeout_s=TIMEOUT_S)
    else:
        opened = PostgresDatabase(url, link=link, clock=clock, timeout_s=TIMEOUT_S, pool_size=1)
    try:
        yield SqlDecisions(opened)
    finally:
        await opened.close()
