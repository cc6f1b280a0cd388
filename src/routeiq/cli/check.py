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

from routeiq.config.loader import inspect_config
from routeiq.config.model import Config
from routeiq.config.section import BUILTIN_PROFILES
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
            kind: {name: list(targets) for name, targets in getattr(router, kind).items()}
            for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
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
    """The report for people."""
    lines = understood(report) if "source" in report else []
    for problem in problems:
        lines.append(f"{problem.severity}: {problem}")
    count = sum(problem.severity == "error" for problem in problems)
    warned = len(problems) - count
    verdict = "The gateway would not start" if count else "The gateway would start"
    return "\n".join([*lines, f"{verdict}: {count} error(s), {warned} warning(s)."])


def price(one: Mapping[str, Any]) -> str:
    """What a model costs, in words."""
    known = [
        f"${one[key]:g} {word}"
        for key, word in (("input_usd_per_mtok", "in"), ("output_usd_per_mtok", "out"))
        if one[key] is not None
    ]
    return f"{', '.join(known)} per Mtok" if known else "price unknown"


def understood(report: dict[str, Any]) -> list[str]:
    """Everything but the problems."""
    lines = [f"Read from {report['source']}", "", "Models"]
    lines += table(
        (
            one["name"],
            one["lane"],
            f"{one['provider']}: {one['model']}",
            one["url"] or "-",
            price(one),
        )
        for one in report["models"]
    )
    lines += ["", f"Routing: strategy {report['strategy']}, balancing {report['balancing']}"]
    lines += table((f"group {name}", ", ".join(them)) for name, them in report["groups"].items())
    lines += table((f"alias {name}", them) for name, them in report["aliases"].items())
    for kind, rules in report["fallbacks"].items():
        lines += table((kind, name, "→ " + ", ".join(them)) for name, them in rules.items())
    if report["default_fallbacks"]:
        lines += table([("default_fallbacks", ", ".join(report["default_fallbacks"]))])
    lines += ["", f"Profiles (default: {report['profile']})"]
    lines += table(
        (name, about or "", "" if name in BUILTIN_PROFILES else "(own)")
        for name, about in report["profiles"].items()
    )
    lines += ["", "Settings"]
    lines += table(
        (one["name"], str(one["value"] if one["value"] not in (None, ()) else "-"), one["source"])
        for one in report["settings"]
    )
    return [*lines, ""]


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows with aligned columns."""
    kept = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in kept) for i in range(len(kept[0]))] if kept else []
    return [
        "  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in kept
    ]
