"""`routeiq models score` and `routeiq models inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--artifact", type=folder, help="A trained artifact.")
@click.option("--strategy", help="A strategy that needs none: prior.")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Lines {id, route_text, models?, costs?}; .gz is read too.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Lines {id, scores}.",
)
def score(artifact: Path | None, strategy: str | None, data: Path, out: Path) -> None:
    """Write the predicted quality of each model for each prompt, so that anyone can compute their own metrics."""
    from routeiq.training.batch import score_file

    rows = score_file(artifact=artifact, strategy=strategy, data=data, out=out)
    click.echo(f"{out}: {rows} rows", err=True)


@click.command()
@click.argument("prompt")
@click.option("--artifact", type=folder, required=True, help="A trained artifact.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def inspect(prompt: str, artifact: Path, as_json: bool) -> None:
    """Say what an artifact predicts for PROMPT, and from what: neighbours, clusters, abilities."""
    from routeiq.training.batch import inspect_prompt

    found = inspect_prompt(artifact, prompt)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
        return
    click.echo(f"difficulty {found['difficulty']:.2f}, {found['strategy']} {found['version'][:12]}")
    for name, value in sorted(found["scores"].items(), key=lambda pair: -pair[1]):
        click.echo(f"  {name:40} {value:.4f}")
    for line in explained(found["explanation"]):
        click.echo(f"  {line}")


def explained(explanation: dict[str, Any]) -> list[str]:
    """An estimator's explanation, a line for each part."""
    return [
        f"{name}: {orjson.dumps(value, default=str).decode()[:300]}"
        for name, value in explanation.items()
    ]
