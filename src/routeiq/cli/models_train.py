"""`routeiq models train`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click
import orjson

from routeiq.config.environment import one_blas_thread

from .signing import signing_options


@click.command()
@click.option("--strategy", default="hybrid", show_default=True, help="What to train.")
@click.option(
    "--data",
    "files",
    required=True,
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="JSON lines, CSV, Parquet, another router's files or a decision log; repeatable.",
)
@click.option("--format", "form", help="The data's format, where it is not recognised.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The artifact's folder.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of everything random.",
)
@click.option("--max-rows", type=click.IntRange(min=1), help="Use no more rows than this.")
@click.option("--features", default="static", show_default=True, help="static or onnx.")
@click.option("--source", "sources", multiple=True, help="A source and its licence, for the card.")
@click.option(
    "--prior-weight", type=click.FloatRange(0.0, 1.0), help="Share of the prior in scores."
)
@signing_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--quiet", is_flag=True, help="No progress.")
def train(
    strategy: str,
    files: tuple[Path, ...],
    form: str | None,
    out: Path,
    seed: int,
    max_rows: int | None,
    features: str,
    sources: tuple[str, ...],
    prior_weight: float | None,
    private_key: str | None,
    hmac_key: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a strategy on your data, and write an artifact that `model: auto` can use.

    A row is a prompt and how models did on it, {"id", "route_text", "scores": {model: 0..1},
    "costs": {model: USD}}; models may be missing. 200 rows are enough to begin with.
    """
    one_blas_thread(os.environ)
    from routeiq.training.produce import Order, produce

    started = time.monotonic()

    def progress(text: str) -> None:
        if not quiet:
            click.echo(f"{time.monotonic() - started:7.1f} s  {text}", err=True)

    order = Order(
        strategy=strategy,
        files=files,
        form=form,
        out=out,
        seed=seed,
        max_rows=max_rows,
        features=features,
        sources=sources,
        prior_weight=prior_weight,
        private_key=private_key,
        hmac_key=hmac_key,
    )
    manifest = produce(order, progress)
    if as_json:
        click.echo(orjson.dumps(manifest.document(), option=orjson.OPT_INDENT_2))
        return
    click.echo(f"{out}: {manifest.strategy} {manifest.version[:12]}, {len(manifest.models)} models")
    click.echo(summary(manifest.metrics))
    click.echo(f"Next: routeiq models evaluate --artifact {out} --data <rows it never saw>")


def summary(metrics: Any) -> str:
    """The numbers that were measured while training, a line each."""
    return "\n".join(
        f"  {name:32} {value:.4f}" if isinstance(value, float) else f"  {name:32} {value}"
        for name, value in metrics.items()
        if isinstance(value, int | float | str)
    )
