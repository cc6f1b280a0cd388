"""`routeiq keys`: who may call a running gateway, and how much."""

from __future__ import annotations

import click

from .admin_api import AdminApi, admin_options, path_of
from .entities import add_create, add_listing, add_show_and_delete, add_update, say


@click.group()
def keys() -> None:
    """Create, list, change, rotate and revoke API keys of a running gateway."""


add_create(keys, "key", "user", "team")
add_update(keys, "key", "user", "team")
add_listing(keys, "key", "user", "team")
add_show_and_delete(keys, "key")


@keys.command()
@click.argument("name")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds for which the old secret still holds.",
)
@admin_options
def rotate(name: str, grace: float, url: str, admin_key: str | None, as_json: bool) -> None:
    """Give a key, by id or alias, a new secret. Limits, budgets and settings stay."""
    path = path_of("keys", name, "rotate")
    view = AdminApi(url, admin_key).call("POST", path, {"grace": grace})
    old = f"holds for {grace:g} more seconds" if grace else "is refused now"
    text = f"{view['secret']}\nThis is the only time that the secret is shown. The old one {old}."
    say(view, as_json, text)


@keys.command()
@click.argument("name")
@admin_options
def revoke(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """Refuse a key, by id or alias, from now on. It stays in the list."""
    view = AdminApi(url, admin_key).call("POST", path_of("keys", name, "revoke"))
    say(view, as_json, f"revoked {view['id']} at {view['revoked_at']}")
