"""`routeiq teams`: who shares limits and budgets."""

from __future__ import annotations

import click

from .entities import add_create, add_listing, add_show_and_delete, add_update


@click.group()
def teams() -> None:
    """Create, list, change and delete teams of a running gateway; users and keys inherit from them."""


add_create(teams, "team")
add_update(teams, "team")
add_listing(teams, "team")
add_show_and_delete(teams, "team")
