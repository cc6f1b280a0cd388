"""`routeiq admin`: what an operator does to an installation."""

from __future__ import annotations

from collections.abc import Mapping

import click

from .main import LazyGroup

COMMANDS: Mapping[str, tuple[str, str]] = {
    "migrate": (
        "routeiq.cli.admin_migrate:migrate",
        "Bring the database's schema up to date; run it once per upgrade.",
    ),
    "reload": (
        "routeiq.cli.admin_reload:reload_command",
        "Read config.yaml again in every worker, and wait until all have it.",
    ),
}


class AdminGroup(LazyGroup):
    """The commands above, imported when run."""

    table = COMMANDS


@click.group(cls=AdminGroup)
def admin() -> None:
    """Look after an installation."""
