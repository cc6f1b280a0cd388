"""`routeiq users`: people who have keys."""

from __future__ import annotations

import click

from .entities import add_create, add_listing, add_show_and_delete, add_update


@click.group()
def users() -> None:
    """Create, list, change and delete users of a running gateway; their keys inherit from them."""


add_create(users, "user", "team")
add_update(users, "user", "team")
add_listing(users, "user", "team")
add_show_and_delete(users, "user")
