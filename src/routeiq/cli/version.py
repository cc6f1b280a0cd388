"""`routeiq version`."""

from __future__ import annotations

import platform

import click

from routeiq._version import __version__


@click.command()
def version() -> None:
    """Print the version, and of what it runs on."""
    click.echo(f"routeiq {__version__} (Python {platform.python_version()}, {platform.system()})")
