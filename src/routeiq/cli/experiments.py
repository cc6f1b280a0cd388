"""`routeiq experiments`: define, start, stop and read experiments of a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from routeiq.cli.admin_api import AdminApi, admin_options, path_of

if TYPE_CHECKING:
    from routeiq.types import JsonObject

_SEGMENT = "experiments"
_HEAD = ("variant", "requests", "share", "of", "quality", "cost_usd", "latency_ms", "error_rate")
_SHOWN = _HEAD[4:]


@click.group()
def experiments() -> None:
    """A/B tests and shadow tests: who sees what, and whether the difference is real."""


@experiments.command("list")
@admin_options
def list_(url: str, admin_key: str | None, as_json: bool) -> None:
    """Every experiment and its state."""
    answer = AdminApi(url, admin_key).call("GET", path_of(_SEGMENT))
    if as_json:
        _print(answer)
        return
    rows = [
        (one["name"], one["state"], one["source"], f"{one['share']:.1%}", _variants(one))
        for one in answer["data"]
    ]
    click.echo(_table([("name", "state", "source", "traffic", "variants"), *rows]))
    for problem in answer["problems"]:
        click.echo(f"warning: {problem}", err=True)


@experiments.command()
@click.argument("name")
@admin_options
def show(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """One experiment's definition, as JSON."""
    del as_json  # a definition has no shorter form
    _print(AdminApi(url, admin_key).call("GET", path_of(_SEGMENT, name)))


@experiments.command()
@click.argument("name")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1.0, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@admin_options
def results(name: str, confidence: float, url: str, admin_key: str | None, as_json: bool) -> None:
    """What came of it, with intervals that hold however often you look."""
    path = path_of(_SEGMENT, name, "results", confidence=str(confidence))
    answer = AdminApi(url, admin_key).call("GET", path)
    if as_json:
        _print(answer)
    elif answer["mode"] == "shadow":
        click.echo(_shadow(answer))
    else:
        click.echo(_report(answer))


@experiments.command()
@click.argument("name")
@click.option(
    "-f",
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="YAML or JSON: what stands under the experiment's name in config.yaml.",
)
@click.option("--replace", is_flag=True, help="Define one anew that is there already.")
@admin_options
def create(
    name: str, file: Path, replace: bool, url: str, admin_key: str | None, as_json: bool
) -> None:
    """Define an experiment; without `start` in it, it starts now."""
    definition = _read(file)
    api = AdminApi(url, admin_key)
    if replace:
        answer = api.call("PUT", path_of(_SEGMENT, name), definition)
    else:
        answer = api.call("POST", path_of(_SEGMENT), {**definition, "name": name})
    _say(answer, as_json)


@experiments.command()
@click.argument("name")
@admin_options
def start(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """Let an experiment run."""
    _say(AdminApi(url, admin_key).call("POST", path_of(_SEGMENT, name, "start")), as_json)


@experiments.command()
@click.argument("name")
@admin_options
def stop(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """Assign nobody any more; the figures stay."""
    _say(AdminApi(url, admin_key).call("POST", path_of(_SEGMENT, name, "stop")), as_json)


@experiments.command()
@click.argument("name")
@admin_options
def reset(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """Forget the figures, and let variants run again that a guard stopped."""
    _say(AdminApi(url, admin_key).call("POST", path_of(_SEGMENT, name, "reset")), as_json)


@experiments.command()
@click.argument("name")
@admin_options
def delete(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
    """Remove an experiment and its figures."""
    answer = AdminApi(url, admin_key).call("DELETE", path_of(_SEGMENT, name))
    _print(answer) if as_json else click.echo(f"{name}: deleted")


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise click.ClickException(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{file} must hold `key: value` lines, as under an experiment.")
    # Dates without quotes are dates to YAML; JSON has none.
    plain: dict[str, Any] = json.loads(json.dumps(found, default=_date))
    return plain


def _date(value: Any) -> str:
    text: str = value.isoformat()
    return text


def _print(answer: Any) -> None:
    click.echo(json.dumps(answer, indent=2))


def _say(answer: JsonObject, as_json: bool) -> None:
    if as_json:
        _print(answer)
    else:
        click.echo(f"{answer['name']}: {answer['state']}, {answer['share']:.1%} of its traffic")


def _variants(one: JsonObject) -> str:
    stopped = one["stopped"]
    names = one["definition"]["variants"]
    return ", ".join(f"{name} (stopped)" if name in stopped else name for name in names)


def _report(answer: JsonObject) -> str:
    rows: list[tuple[str, ...]] = [_HEAD]
    said: list[str] = []
    for name, one in answer["variants"].items():
        share = "-" if one["share"] is None else f"{one['share']:.2%}"
        metrics = [_interval(one["metrics"][metric]) for metric in _SHOWN]
        rows.append((name, str(one["requests"]), share, f"{one['configured_share']:.2%}", *metrics))
        said += _differences(name, answer["control"], one["difference"] or {})
        if one["stopped"]:
            said.append(f"{name} was stopped by a guard: {one['stopped'].get('why')}")
    split = answer["split"]
    if split["mismatch"]:
        said.append(
            f"The split is not as configured (p = {split['p']:.2g}): do not trust these figures."
        )
    return "\n".join([_table(rows), *said, *answer["notes"]])


def _differences(name: str, control: str, found: JsonObject) -> list[str]:
    return [
        f"{name} - {control}: {metric} {one['mean']:+.4g} [{one['low']:+.4g}, {one['high']:+.4g}]"
        for metric, one in found.items()
        if one is not None and one["significant"]
    ] or ([f"{name} - {control}: nothing significant yet"] if found else [])


def _interval(one: JsonObject) -> str:
    if one["mean"] is None:
        return "-"
    if one["low"] is None:
        return f"{one['mean']:.4g}"
    return f"{one['mean']:.4g} [{one['low']:.4g}, {one['high']:.4g}]"


def _shadow(answer: JsonObject) -> str:
    rows: list[tuple[str, ...]] = [("variant", "requests", "errors", "agrees", "cost", "active's")]
    for name, one in answer["variants"].items():
        agreement = "-" if one["agreement"] is None else f"{one['agreement']:.1%}"
        costs = [
            "-" if cost is None else f"{cost:.3g} USD"
            for cost in (one["predicted_cost_usd"], one["predicted_cost_usd_active"])
        ]
        rows.append((name, str(one["requests"]), str(one["errors"]), agreement, *costs))
    return _table(rows)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)) for r in rows]
    return "\n".join(line.rstrip() for line in lines)
