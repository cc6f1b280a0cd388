"""`routeiq schema`."""

from __future__ import annotations

import json

import click

from routeiq.config.schema import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of config.yaml, for editors and validators."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
