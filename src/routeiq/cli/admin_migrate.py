"""`routeiq admin migrate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from routeiq.ports import SystemClock
from routeiq.state.location import is_sqlite, sqlite_path
from routeiq.state.migrate import Migration
from routeiq.state.postgres import require_driver
from routeiq.state.sqlite_file import migrate_file, pending_file

DEFAULT_URL = "sqlite:///routeiq.db"


@click.command()
@click.option(
    "--database-url",
    envvar="DATABASE_URL",
    default=DEFAULT_URL,
    help=f"postgresql://… or sqlite:///file; DATABASE_URL by default, else {DEFAULT_URL}.",
)
@click.option("--check", is_flag=True, help="Only say what is pending; exit 1 if anything is.")
@click.option("--again", is_flag=True, help="Run a migration once more that did not finish.")
def migrate(database_url: str, *, check: bool, again: bool) -> None:
    """Bring the database's schema up to date.

    Run it before a new version starts, as a job or an init container; several at once are safe. SQLite is
    migrated by itself when RouteIQ opens it.
    """
    if not is_sqlite(database_url):
        done = _postgres(database_url, check=check, again=again)
    elif check:
        done = pending_file(sqlite_path(database_url), again=again)
    else:
        done = migrate_file(sqlite_path(database_url), SystemClock(), again=again)
    for migration in done:
        click.echo(f"{'pending' if check else 'applied'} {migration}")
    if not done:
        click.echo("the schema is up to date")
    elif check:
        sys.exit(1)


def _postgres(url: str, *, check: bool, again: bool) -> Sequence[Migration]:
    require_driver()  # says which extra is missing
    from routeiq.state.postgres_migrate import migrate_postgres, pending_postgres

    run = pending_postgres if check else migrate_postgres
    return run(url, SystemClock(), again=again)
