"""`routeiq admin reload`: read config.yaml again in every worker, and wait until all have it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from .admin_api import AdminApi, admin_options

POLL_S = 0.2


@click.command("reload")
@admin_options
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.0, 600.0),
    default=10.0,
    show_default=True,
    help="Seconds to wait for all workers.",
)
def reload_command(url: str, admin_key: str | None, as_json: bool, wait_s: float) -> None:
    """Let the running gateway read its configuration again.

    Nothing changes where it cannot be used. Ends with 1 when a worker has not taken it in time.
    """
    api = AdminApi(url, admin_key)
    found: dict[str, Any] = api.call("POST", "/config/reload")
    workers = wait_for(api, found["digest"], wait_s)
    behind = [one["id"] for one in workers if one["config"] != found["digest"]]
    if as_json:
        click.echo(json.dumps({**found, "workers": len(workers), "behind": behind}))
    else:
        click.echo(
            f"{found['source']} is in force ({found['digest'][:12]}), {len(workers)} workers."
        )
        for one in behind:
            click.echo(f"not yet: {one}", err=True)
    sys.exit(1 if behind else 0)


def wait_for(api: AdminApi, digest: str, wait_s: float) -> list[dict[str, Any]]:
    """The workers, as soon as all of them have this configuration, or when the time is up."""
    deadline = time.monotonic() + wait_s
    while True:
        workers: list[dict[str, Any]] = api.call("GET", "/workers")["data"]
        if all(one["config"] == digest for one in workers) or time.monotonic() >= deadline:
            return workers
        time.sleep(POLL_S)
