"""`routeiq teams`: who shares limits and budgets."""

from __future__ import annotations

import click

from .entities import add_create_and_update, add_listing, add_show_and_delete


@click.group()
def teams() -> None:
    """Create, list, change and delete teams of a running gateway; users and keys inherit from them."""


add_create_and_update(teams, "team")
add_listing(teams, "team")
add_show_and_delete(teams, "team")
