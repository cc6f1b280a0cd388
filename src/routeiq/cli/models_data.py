"""`routeiq models data`, `import` and `export`: describe, check and convert routing data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from routeiq.training.deduplication import Leakage
    from routeiq.training.records import Preference, Record
    from routeiq.training.validation import Problems

source = click.Path(exists=True, path_type=Path)
target = click.Path(path_type=Path)
_Command = Callable[..., Any]


def _reading(command: _Command) -> _Command:
    """The arguments of every command that reads data."""
    for add in (
        click.option(
            "--evaluation-only",
            is_flag=True,
            help="Also read data that its owners forbid to train on (RouterArena).",
        ),
        click.option("--format", "form", help="Name of the format, where it is not recognised."),
        click.argument("files", nargs=-1, required=True, type=source),
    ):
        command = add(command)
    return command


@click.command()
@_reading
@click.option("--against", type=source, multiple=True, help="Test data that must not be in FILES.")
@click.option(
    "--similar",
    type=click.FloatRange(0.5, 1.0),
    default=0.8,
    show_default=True,
    help="Share of common word triples from which two texts are near duplicates.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def data(
    files: tuple[Path, ...],
    form: str | None,
    evaluation_only: bool,
    against: tuple[Path, ...],
    similar: float,
    as_json: bool,
) -> None:
    """Say what is in FILES and whether a router can learn from it.

    Ends with 1 when rows cannot be used or when test rows given with --against are among FILES.
    """
    from routeiq.training.reading import read
    from routeiq.training.statistics import Collector
    from routeiq.training.statistics_text import render, render_leakage
    from routeiq.training.validation import Problems

    problems = Problems()
    collector = Collector()
    rows = collector.watch(
        read(files, format=form, problems=problems, allow_evaluation_only=evaluation_only)
    )
    leaks: Leakage | None = None
    if against:
        leaks = _leakage(rows, read(against, allow_evaluation_only=True), similar)
    else:
        for _ in rows:
            pass
    found = collector.finish()
    if as_json:
        click.echo(orjson.dumps(_document(found.to_json(), problems, leaks)))
    else:
        click.echo(render(found))
        if leaks is not None:
            click.echo(render_leakage(leaks, ", ".join(map(str, against))))
        _complain(problems)
    if problems.total or (leaks is not None and leaks.share > 0):
        raise SystemExit(1)


@click.command("import")
@_reading
@click.option("--out", required=True, type=target, help="Plain JSON lines; .gz compresses.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out what cannot be used and say so.")
def import_(
    files: tuple[Path, ...],
    form: str | None,
    evaluation_only: bool,
    out: Path,
    skip_bad_rows: bool,
) -> None:
    """Convert FILES, in any format that is known, to RouteIQ's plain JSON lines.

    A price list (LLMRouter's llm_candidates.json) among FILES turns counted tokens into costs.
    """
    from routeiq.training.export import export_plain
    from routeiq.training.reading import read
    from routeiq.training.validation import Problems

    problems = Problems() if skip_bad_rows else None
    rows = read(files, format=form, problems=problems, allow_evaluation_only=evaluation_only)
    written = export_plain(rows, out)
    click.echo(f"{out}: {written} rows", err=True)
    if problems is not None:
        _complain(problems)


@click.command("export")
@_reading
@click.option(
    "--to", "form_to", required=True, type=click.Choice(["llmrouter", "routerarena", "plain"])
)
@click.option("--out", required=True, type=target, help="Folder for llmrouter, else a file.")
@click.option(
    "--scores", type=source, help="For routerarena: what `routeiq models score` wrote for FILES."
)
def export_(
    files: tuple[Path, ...],
    form: str | None,
    evaluation_only: bool,
    form_to: str,
    out: Path,
    scores: Path | None,
) -> None:
    """Write FILES in another router's format.

    llmrouter: query_data, routing_data and llm_candidates. routerarena: a prediction file with the model of the
    highest score for each query.
    """
    from routeiq.training.export import export_llmrouter, export_plain
    from routeiq.training.reading import prices_of, read

    if form_to == "routerarena":
        _predictions(files, scores, out)
        return
    rows = read(files, format=form, allow_evaluation_only=evaluation_only)
    if form_to == "llmrouter":
        queries, written = export_llmrouter(rows, out, prices=prices_of(files))
        click.echo(f"{out}: {queries} queries, {written} rows", err=True)
    else:
        click.echo(f"{out}: {export_plain(rows, out)} rows", err=True)


def _predictions(files: tuple[Path, ...], scores: Path | None, out: Path) -> None:
    from routeiq.training.export import export_routerarena, question, scored
    from routeiq.training.reading import read_pairs

    if scores is None:
        raise click.UsageError("--to routerarena needs --scores, what `routeiq models score` wrote")
    questions = (pair for file in files for pair in read_pairs(file, question))
    written = export_routerarena(questions, dict(read_pairs(scores, scored)), out)
    click.echo(f"{out}: {written} predictions", err=True)


def _leakage(
    train: Iterator[Record | Preference], test: Iterator[Record | Preference], similar: float
) -> Leakage:
    from routeiq.training.deduplication import leakage, signatures

    known = signatures(item.text for item in train if item.text)
    return leakage(known, signatures(item.text for item in test if item.text), similar=similar)


def _document(
    found: dict[str, object], problems: Problems, leaks: Leakage | None
) -> dict[str, object]:
    document = {
        **found,
        "problems": [str(problem) for problem in problems],
        "problems_total": problems.total,
    }
    if leaks is not None:
        document["leakage"] = {
            "train_rows": leaks.train_rows,
            "test_rows": leaks.test_rows,
            "exact": len(leaks.exact),
            "near": len(leaks.near),
            "share": leaks.share,
        }
    return document


def _complain(problems: Problems) -> None:
    for problem in problems:
        click.echo(f"problem: {problem}", err=True)
    if problems.total > len(list(problems)):
        click.echo(f"problem: {problems.total} in all", err=True)
