"""`routeiq explain`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import orjson

from routeiq.access.principal import ANONYMOUS_ADMIN
from routeiq.config.loader import load_config
from routeiq.gateway.admin import explain as decide
from routeiq.gateway.runtime import build


@click.command()
@click.argument("prompt")
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Path of config.yaml."
)
@click.option("--model", default="auto", show_default=True, help="Model, group or auto.")
@click.option("--profile", help="auto, eco, premium, free, reasoning or one of your own.")
@click.option("--system", help="A system prompt.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def explain(
    prompt: str,
    path: Path | None,
    model: str,
    profile: str | None,
    system: str | None,
    as_json: bool,
) -> None:
    """Say which model would answer PROMPT, and why. Calls no model."""
    runtime = build(load_config(None if path is None else str(path), os.environ))
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    headers = [(b"x-routeiq-profile", profile.encode("latin-1", "replace"))] if profile else []
    scope: dict[str, Any] = {"request_id": "explain", "headers": headers}
    body = {"model": model, "messages": messages}
    answer = decide(runtime, scope, body, ANONYMOUS_ADMIN)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        click.echo(render(answer))


def render(answer: dict[str, Any]) -> str:
    """The decision for a person."""
    lines = [
        f"{answer['model']} ({answer['deployment']})",
        f"  because   {answer['reason']}",
        f"  strategy  {answer['strategy']}, profile {answer['profile']}, "
        f"about {answer['input_tokens']} input tokens, decided in {answer['duration_ms']:.3f} ms",
        "",
        f"  {'candidate':32} {'score':>7} {'utility':>8} {'cost USD':>11}",
    ]
    for one in answer["candidates"]:
        cost = "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.7f}"
        lines.append(f"  {one['model']:32} {one['score']:7.3f} {one['utility']:8.3f} {cost:>11}")
    lines.extend(
        f"  not considered: {one['deployment']}: {one['reason']}" for one in answer["exclusions"]
    )
    return "\n".join(lines)
