"""`routeiq models embedder`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Their folder."
)
@click.option(
    "--model",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of all-MiniLM-L6-v2; else it is looked for in the usual places.",
)
@click.option("--int8", "only_int8", is_flag=True, help="Only int8 (24 MB), without fp32 (90 MB).")
@click.option("--download", is_flag=True, help="Fetch it from Hugging Face if it is nowhere.")
def embedder(out: Path, source: Path | None, only_int8: bool, download: bool) -> None:
    """Make the ONNX files of all-MiniLM-L6-v2 for the `onnx` features, and measure int8 against fp32.

    The folder is complete: a gateway that is pointed to it needs neither the model's package nor a cache.
    """
    from routeiq.embeddings.onnx_export import export
    from routeiq.embeddings.onnx_model import Search

    search = Search(path=source, environment=os.environ, download=download)
    done = export(out, search, precisions=("int8",) if only_int8 else ("int8", "fp32"))
    click.echo(f"{out}: {', '.join(done.files)} from {done.source}")
    click.echo(
        f"int8 against fp32 on {done.texts} texts: cosine {done.mean:.4f} on average, {done.least:.4f} at least"
    )
