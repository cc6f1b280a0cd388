"""`routeiq check`: what a configuration means, and everything that is wrong with it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from routeiq.config.loader import inspect_config
from routeiq.config.model import Config
from routeiq.config.settings import SECRET_FIELDS, Settings, env_name
from routeiq.exceptions import ConfigError, InvalidRequest, Problem
from routeiq.gateway.runtime import build
from routeiq.providers.resolve import Resolved, resolve
from routeiq.routing.router import DEFAULT_STRATEGY
from routeiq.types import Deployment, Operation

from .serve import require_authentication

MASK = "(set, not shown)"


@click.command()
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Path of config.yaml."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(path: Path | None, as_json: bool) -> None:
    """Say what a configuration means, and what is wrong with it.

    Calls nobody. Ends with 0 when the gateway would start, with warnings or without, and with 2 when not.
    """
    config, found = inspect_config(None if path is None else str(path), os.environ)
    problems = list(found)
    report: dict[str, Any] = {}
    if config is not None:
        resolved = resolve(config)
        problems += [located(problem, config) for problem in resolved.problems]
        if not errors(problems):
            problems += build_problems(config, problems)
        problems += authentication_problems(config)
        report = describe(config, resolved)
    report = {"ok": not errors(problems), **report, "problems": [asdict(one) for one in problems]}
    click.echo(json.dumps(report, indent=2) if as_json else text(report, problems))
    sys.exit(0 if report["ok"] else 2)


def errors(problems: Iterable[Problem]) -> bool:
    """Whether one of them keeps the gateway from starting."""
    return any(problem.severity == "error" for problem in problems)


def located(problem: Problem, config: Config) -> Problem:
    """A problem of a deployment with the place where that was written."""
    for place in config.deployments:
        if not problem.file and re.match(re.escape(place.key) + r"(\W|$)", problem.key):
            return replace(problem, file=place.file)
    return problem


def build_problems(config: Config, known: Sequence[Problem]) -> list[Problem]:
    """What only building the whole gateway finds."""
    try:
        build(config, insecure=True)
    except ConfigError as error:
        said = {problem.message for problem in known}
        return [one for one in error.problems if one.message not in said]
    return []


def authentication_problems(config: Config) -> list[Problem]:
    """What `serve` would refuse without a flag: a warning here, where no flag is given."""
    try:
        require_authentication(config, config.settings.host, insecure=False)
    except ConfigError as error:
        return [replace(problem, severity="warning") for problem in error.problems]
    return []


def describe(config: Config, resolved: Resolved) -> dict[str, Any]:
    """What was understood, secrets left out."""
    router, section = config.router, config.routeiq
    return {
        "source": config.source,
        "digest": config.digest,
        "models": [describe_model(one, resolved) for one in resolved.deployments],
        "groups": {name: list(group.models) for name, group in section.groups.items()},
        "aliases": dict(router.aliases),
        "strategy": config.settings.strategy or strategy_name(section.strategy) or DEFAULT_STRATEGY,
        "balancing": strategy_name(section.balancing) or router.balancing,
        "profile": section.profile,
        "profiles": {name: one.description for name, one in section.all_profiles().items()},
        "fallbacks": {
            kind: {name: list(targets) for name, targets in rules.items()}
            for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
            if (rules := getattr(router, kind))
        },
        "default_fallbacks": list(router.default_fallbacks),
        "master_key": MASK if config.master_key else None,
        "settings": [describe_setting(config, field) for field in Settings.model_fields],
    }


def strategy_name(choice: Any) -> str | None:
    """The name in either form of a strategy."""
    return choice if isinstance(choice, str) or choice is None else str(choice.name)


def describe_model(one: Deployment, resolved: Resolved) -> dict[str, Any]:
    """One deployment: where its calls go and what is known about it."""
    facts = one.facts
    return {
        "name": one.group,
        "id": one.id,
        "provider": one.provider,
        "model": one.model,
        "lane": one.lane,
        "url": destination(one, resolved),
        "input_usd_per_mtok": mtok(facts.input_usd_per_token),
        "output_usd_per_mtok": mtok(facts.output_usd_per_token),
        "context_tokens": facts.context_tokens,
        "tags": sorted(one.tags),
    }


def destination(one: Deployment, resolved: Resolved) -> str | None:
    """The address of its calls, without what may be secret in it."""
    upstream = resolved.upstreams.get(one.id)
    if upstream is None:
        return None
    operation: Operation = "embeddings" if one.facts.mode == "embedding" else "chat"
    try:
        call = upstream.prepare(operation, {}, one.model, stream=False, client_asked_usage=True)
    except (InvalidRequest, OSError, ValueError):  # it serves other operations, or has no token yet
        return None
    parts = urlsplit(call.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def mtok(per_token: float | None) -> float | None:
    """USD per million tokens."""
    return None if per_token is None else round(per_token * 1e6, 6)


def describe_setting(config: Config, field: str) -> dict[str, Any]:
    """A setting, and where its value came from."""
    name, value = env_name(field), getattr(config.settings, field)
    source = (
        "environment"
        if os.environ.get(name)
        else config.source
        if config.environ.get(name)
        else "default"
    )
    shown = MASK if field in SECRET_FIELDS and value else value
    return {"name": name, "value": shown, "source": source}


def text(report: dict[str, Any], problems: Sequence[Problem]) -> str:
    """The report for people: models as a table, the rest as YAML."""
    lines = []
    if "models" in report:
        rest = {
            k: v for k, v in report.items() if k not in ("ok", "models", "settings", "problems")
        }
        settings = {
            one["name"]: f"{'-' if one['value'] in (None, ()) else one['value']}  ({one['source']})"
            for one in report["settings"]
        }
        lines += ["models:", *table([model_row(one) for one in report["models"]]), ""]
        written = {key: value for key, value in rest.items() if value not in ({}, [], None, "")}
        lines += [yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)]
        lines += ["settings:", *table(list(settings.items())), ""]
    lines += [f"{problem.severity}: {problem}" for problem in problems]
    count = sum(problem.severity == "error" for problem in problems)
    verdict = "The gateway would not start" if count else "The gateway would start"
    return "\n".join([*lines, f"{verdict}: {count} error(s), {len(problems) - count} warning(s)."])


def model_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A model in columns: name, lane, provider, address, price."""
    known = [
        f"${one[key]:g} {word}"
        for key, word in (("input_usd_per_mtok", "in"), ("output_usd_per_mtok", "out"))
        if one[key] is not None
    ]
    price = f"{', '.join(known)} per Mtok" if known else "price unknown"
    where = f"{one['provider']}: {one['model']}"
    return one["name"], f"{one['lane']} lane", where, one["url"] or "-", price


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
