"""`routeiq models sample`."""

from __future__ import annotations

from pathlib import Path

import click
import orjson


@click.command()
@click.option("--rows", "count", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seed", default=1, show_default=True, help="Another seed, other prompts.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def sample(count: int, seed: int, out: Path) -> None:
    """Write training data of the simulator's models: what `routeiq demo` serves, with known quality."""
    from routeiq.simulator.sample import prompts, rows

    lines = rows(list(prompts(count, seed)))
    try:
        with open(out, "wb") as file:
            file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in lines)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}.") from error
    click.echo(f"{out}: {count} rows", err=True)
