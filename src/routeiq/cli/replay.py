"""`routeiq replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from routeiq.training.replay import Decisions, Replayed

_path = click.Path(exists=True, path_type=Path)
TEXT_KEYS = ("route_text", "text", "prompt", "query", "question")


@click.command()
@click.option(
    "--log", "logs", type=_path, multiple=True, help="Decision log: a file or its folder."
)
@click.option("--prompts", "prompt_file", type=_path, help="Prompts: one a line, or JSON lines.")
@click.option("--strategy", "strategies", multiple=True, help="A strategy without training: prior.")
@click.option("--artifact", "artifacts", type=_path, multiple=True, help="A trained artifact.")
@click.option("--profile", default="auto", show_default=True, help="Trades quality for cost.")
@click.option("-c", "--config", "config_path", type=_path, help="config.yaml: profiles, models.")
@click.option("--clip", type=click.FloatRange(min=1.0), help="Largest importance weight.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def replay(
    logs: tuple[Path, ...],
    prompt_file: Path | None,
    strategies: tuple[str, ...],
    artifacts: tuple[Path, ...],
    profile: str,
    config_path: Path | None,
    clip: float | None,
    as_json: bool,
) -> None:
    """Say what strategies would have chosen in a decision log, or for prompts. Calls no model.

    Give --strategy and --artifact as often as you like, to see them side by side. From a log with feedback,
    propensities and some exploration it also estimates what the choices would have been worth, and says so where
    it cannot.
    """
    if bool(logs) == (prompt_file is not None):
        raise click.UsageError("give either --log or --prompts")
    if not strategies and not artifacts:
        raise click.UsageError("give at least one --strategy or --artifact")
    from routeiq.training.replay import run
    from routeiq.training.scoring import open_scorer

    configured, deployments = _configuration(config_path)
    if profile not in configured:
        known = ", ".join(sorted(configured))
        raise click.UsageError(f"there is no profile {profile!r}; known: {known}")
    scorers = [(name, open_scorer(None, name)) for name in strategies]
    scorers += [(str(folder), open_scorer(folder, None)) for folder in artifacts]
    if prompt_file is None:
        decisions = _logged(logs)
    else:
        models = [m for _, scorer in scorers for m in scorer.models]
        decisions = _prompted(prompt_file, models, deployments)
    found = [
        run(decisions, scorer, configured[profile], name=name, clip=clip)
        for name, scorer in scorers
    ]
    answer = report(decisions, found, profile)
    if as_json:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    else:
        click.echo(render(answer))


def _configuration(path: Path | None) -> tuple[dict[str, Any], list[Any]]:
    """Profiles by name, and the deployments; the built-in profiles alone without a configuration."""
    import os

    from routeiq.config.loader import load_config
    from routeiq.config.section import BUILTIN_PROFILES
    from routeiq.providers.resolve import resolve

    if path is None:
        return dict(BUILTIN_PROFILES), []
    config = load_config(str(path), os.environ)
    return config.routeiq.all_profiles(), list(resolve(config).deployments)


def _logged(logs: tuple[Path, ...]) -> Decisions:
    from routeiq.training.reading import read
    from routeiq.training.replay import read_decisions

    return read_decisions(read(list(logs), format="decision-log"))


def _prompted(path: Path, models: list[str], deployments: list[Any]) -> Decisions:
    """The prompts of a file, for the chat models of the configuration, or those that the artifacts know."""
    from routeiq.routing.request import parse_request
    from routeiq.routing.spending import DEFAULT_TOKENS
    from routeiq.training.replay import prompts

    texts = read_prompts(path)
    prices: dict[str, tuple[float | None, float | None]] = {}
    for one in deployments:
        facts = one.facts
        if facts.mode in (None, "chat", "responses") and "*" not in one.group:
            prices.setdefault(one.group, (facts.input_usd_per_token, facts.output_usd_per_token))
    costs = []
    for text in texts:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        tokens = parse_request("chat", body, id="replay").input_tokens
        costs.append(
            {
                model: tokens * read + DEFAULT_TOKENS * written
                for model, (read, written) in prices.items()
                if read is not None and written is not None
            }
        )
    return prompts(texts, list(prices) or list(dict.fromkeys(models)), costs)


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: one a line, JSON strings, or objects with one of `TEXT_KEYS`; `.gz` is read too.

    Raises:
        DataError: a line is an object without a prompt, or broken JSON.
    """
    import gzip

    from routeiq.training.errors import DataError, DataProblem

    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    texts = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            text = _prompt(line.strip())
        except ValueError as error:
            raise DataError(
                [DataProblem(message=str(error), file=str(path), row=number)]
            ) from error
        if text:
            texts.append(text)
    return texts


def _prompt(line: bytes) -> str:
    """The prompt in a line; `ValueError` where a JSON line has none."""
    if line[:1] not in (b"{", b'"'):
        return line.decode("utf-8", "replace")
    value = orjson.loads(line)
    if isinstance(value, dict):
        value = next((value[key] for key in TEXT_KEYS if key in value), None)
    if not isinstance(value, str):
        raise ValueError(f"no prompt; it stands under {', '.join(TEXT_KEYS)}")
    return value


def report(decisions: Decisions, found: list[Replayed], profile: str) -> dict[str, Any]:
    """The result as JSON."""
    from dataclasses import asdict

    from routeiq.training.replay import as_logged

    rows = []
    for one in found:
        row = {name: getattr(one, name) for name in one.__dataclass_fields__ if name != "choices"}
        row["overlap"] = None if one.overlap is None else asdict(one.overlap)
        row["estimates"] = {e.method: asdict(e) for e in one.estimates}
        rows.append(row)
    measured = as_logged(decisions) if decisions.logged else None
    return {
        "requests": len(decisions),
        "profile": profile,
        "left_out": dict(decisions.left_out),
        "as_logged": None if measured is None else asdict(measured),
        "strategies": rows,
    }


def render(answer: dict[str, Any]) -> str:
    """The result for a person."""
    lines = [f"{answer['requests']} requests, profile {answer['profile']}"]
    lines += [f"  left out: {count} x {why}" for why, count in answer["left_out"].items()]
    measured = answer["as_logged"]
    if measured is not None:
        lines.append(f"as logged: mean feedback {_interval(measured)}")
    for one in answer["strategies"]:
        cost = one["predicted_usd"]
        spent = "cost unknown" if cost is None else f"{1000 * cost:.4f} USD per 1,000 requests"
        lines += ["", one["name"], f"  predicted quality {one['predicted_quality']:.4f}, {spent}"]
        if one["agreement"] is not None:
            lines.append(f"  chooses as logged in {one['agreement']:.1%} of the requests")
        shares = sorted(one["selection"].items(), key=lambda pair: -pair[1])
        lines.append("  chooses " + ", ".join(f"{name} {share:.1%}" for name, share in shares[:8]))
        lines += _estimated(one)
    return "\n".join(lines)


def _estimated(one: dict[str, Any]) -> list[str]:
    """The lines about the off-policy estimates, or the refusal."""
    if one["refusal"] is not None:
        return [f"  no estimate: {one['refusal']}"]
    if not one["estimates"]:
        return []
    known = one["overlap"]
    lines = [f"  {name:6} {_interval(e)}" for name, e in one["estimates"].items()]
    lines[0] = lines[0] + "  (estimated mean feedback)"
    return [
        *lines,
        f"  worth {known['sample']:.0f} of {known['decisions']} decisions with feedback, largest weight "
        f"{known['largest_weight']:.1f}"
        + (f", {known['clipped']:.1%} clipped" if known["clip"] else ""),
    ]


def _interval(estimate: dict[str, Any]) -> str:
    sure = f"{estimate['confidence']:.0%}"
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}] at {sure}"
