"""`python -m bench`: the command line."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson

from . import install as installing
from . import report
from . import soak as soaking
from . import stalls as stalling
from .gateways import INSTALLED, installed
from .launch import ROOT, LaunchError
from .load import LoadError
from .run import EFFORTS, Options
from .run import run as measure
from .targets import judge

OTHERS = ROOT / ".tools" / "bench"
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "reference" / "performance.md"

_generator = click.option(
    "--generator",
    type=click.Choice(["wrk", "python"]),
    help="Load generator; wrk where it is installed, else our own.",
)
_strict = click.option("--strict", is_flag=True, help="Exit with 1 where a bound is not met.")
_out = click.option(
    "--out", type=click.Path(path_type=Path), help="JSON file [bench/results/<command>.json]."
)


def say(text: str) -> None:
    """Progress."""
    click.echo(f"… {text}", err=True)


def save(result: Any, path: Path) -> None:
    """Write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    say(f"wrote {path}")


class RunByDefault(click.Group):
    """`python -m bench --quick` means `python -m bench run --quick`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front unless a command, or help, was asked for."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RunByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """What the gateway costs, against a direct call in the same run. Without a command: `run`."""
    if sys.platform != "linux":
        raise click.ClickException("CPU and memory are read from /proc: this runs on Linux only.")
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # ends what it started


@bench.command()
@click.option("--quick", "size", flag_value="quick", help="A minute, coarse; no page.")
@click.option("--smoke", "size", flag_value="smoke", help="Only whether it runs; no page.")
@click.option(
    "--columns",
    help=f"Other gateways, of {', '.join(INSTALLED)}; 'none' for none [those that are installed].",
)
@click.option(
    "--others",
    type=click.Path(path_type=Path),
    default=OTHERS,
    help="Where other gateways are installed [.tools/bench].",
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds that count [5; quick: 2].")
@click.option("--page", type=click.Path(path_type=Path), help="Page to write.")
@_out
@_generator
@_strict
def run(
    size: str | None,
    columns: str | None,
    others: Path,
    rounds: int | None,
    page: Path | None,
    out: Path | None,
    generator: str | None,
    strict: bool,
) -> None:
    """Overhead, latency, streams, memory, start-up; writes docs/reference/performance.md."""
    effort = EFFORTS[size or "full"]
    options = Options(
        effort=effort if rounds is None else replace(effort, rounds=rounds, tries=rounds * 2),
        columns=chosen(columns, others),
        others=others.absolute(),
        generator=generator,
    )
    try:
        result = measure(options, say)
    except (LaunchError, LoadError) as error:
        raise click.ClickException(str(error)) from error
    save(result, out or RESULTS / "run.json")
    target = page or (None if size else PAGE)
    if target is not None:
        target.write_text(report.page(result))
        say(f"wrote {target}")
    verdicts = judge(result)
    click.echo(f"Load generator: {result['method']['generator']}.\n")
    click.echo(report.cpu_table(result) + "\n")
    click.echo(report.verdict_table(verdicts))
    if note := report.warning(result):
        click.echo("\n" + note)
    finish(all(one.met for one in verdicts), strict=strict)


@bench.command("page")
@click.argument("result", type=click.Path(exists=True, path_type=Path))
@click.option("--page", "target", type=click.Path(path_type=Path), default=PAGE)
def write_page(result: Path, target: Path) -> None:
    """Write the page again from a result."""
    target.write_text(report.page(orjson.loads(result.read_bytes())))


@bench.command()
@click.option("--seconds", type=click.FloatRange(3), default=300, show_default=True)
@click.option("--connections", type=click.IntRange(1), default=1000, show_default=True)
@_out
@_generator
@_strict
def soak(
    seconds: float, connections: int, out: Path | None, generator: str | None, strict: bool
) -> None:
    """A thousand requests at once for minutes: no error, and memory levels off."""
    result = soaking.soak(seconds=seconds, connections=connections, generator=generator, say=say)
    save(result, out or RESULTS / "soak.json")
    click.echo(soaking.verdict(result))
    finish(result["passed"], strict=strict)


@bench.command()
@click.option("--seconds", type=click.FloatRange(1), default=20, show_default=True)
@_out
@_generator
@_strict
def stalls(seconds: float, out: Path | None, generator: str | None, strict: bool) -> None:
    """PYTHONASYNCIODEBUG=1 under traffic of every kind: no callback over 100 ms."""
    results = stalling.stalls(seconds=seconds, generator=generator, say=say)
    save(results, out or RESULTS / "stalls.json")
    click.echo(stalling.verdict(results))
    finish(all(one["passed"] for one in results), strict=strict)


@bench.command("install-others")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=OTHERS)
@click.option("--columns", default=",".join(installing.PACKAGES), show_default=True)
def install_others(folder: Path, columns: str) -> None:
    """Install other gateways from PyPI and npm, to be measured beside ours."""
    names = [one for one in columns.split(",") if one]
    unknown = set(names) - set(installing.PACKAGES)
    if unknown:
        raise click.UsageError(f"unknown: {', '.join(sorted(unknown))}")
    installing.install(folder, names, say)


def chosen(columns: str | None, others: Path) -> list[str]:
    """The columns to measure beside our own.

    Raises:
        click.UsageError: one is unknown or not installed.
    """
    found = installed(others)
    if columns is None:
        return found
    names = [one for one in columns.split(",") if one and one != "none"]
    missing = [one for one in names if one not in found]
    if missing:
        raise click.UsageError(
            f"not installed in {others}: {', '.join(missing)}. "
            f"`python -m bench install-others --dir {others}` installs {', '.join(INSTALLED)}."
        )
    return names


def finish(good: bool, *, strict: bool) -> None:
    """Leave with 1 where that was asked for."""
    if strict and not good:
        sys.exit(1)


if __name__ == "__main__":
    bench(prog_name="python -m bench")
