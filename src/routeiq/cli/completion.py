"""`routeiq completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print shell completion; for example `routeiq completion bash >> ~/.bashrc`."""
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "routeiq", "_ROUTEIQ_COMPLETE").source())
