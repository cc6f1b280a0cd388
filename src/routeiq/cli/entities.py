"""What `routeiq keys`, `users` and `teams` have in common: options for every setting, and printing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from .admin_api import AdminApi, admin_options, path_of

Command = TypeVar("Command", bound=Callable[..., Any])
_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)usd/(day|week|month|total)")
_TOKENS = re.compile(r"([0-9]+)([kmg]?)/(day|week|month|total)")
_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}

_OPTIONS = (
    click.option("--model", "models", multiple=True, help="Model group (glob) that may answer."),
    click.option("--deny", "denied_models", multiple=True, help="Model group (glob) that may not."),
    click.option("--profile", "profiles", multiple=True, help="Profile (glob) that may be asked."),
    click.option("--rpm", type=click.IntRange(1), help="Requests per minute."),
    click.option("--tpm", type=click.IntRange(1), help="Tokens per minute."),
    click.option("--concurrent", type=click.IntRange(1), help="Requests at once."),
    click.option(
        "--budget", "budgets", multiple=True, help="10usd/day; day, week, month or total."
    ),
    click.option(
        "--token-budget", "token_budgets", multiple=True, help="2m/day: 2,000,000 tokens."
    ),
    click.option(
        "--fail-closed",
        is_flag=True,
        help="Refuse, where these limits and budgets cannot be counted, instead of letting through.",
    ),
    click.option("--permission", "permissions", multiple=True, help="*, keys.*, decisions.read."),
    click.option("--tag", "tags", multiple=True, help="Added to the tags of every request."),
    click.option("--no-hint", is_flag=True, help="Do not listen to x-routeiq-hint."),
    click.option("--metadata", multiple=True, help="name=text, for you."),
    click.option("--expires", help="2027-01-31, a time, or 30d from now."),
)


def setting_options(command: Command) -> Command:
    """An option for every setting; `settings_from` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_from(given: dict[str, Any]) -> dict[str, Any]:
    """The settings that the options name, as the admin API takes them.

    Raises:
        BadParameter: a budget or metadata cannot be read.
    """
    names = ("models", "denied_models", "profiles", "permissions", "tags")
    settings: dict[str, Any] = {name: list(given[name]) for name in names if given[name]}
    limits = {
        "requests_per_minute": given["rpm"],
        "tokens_per_minute": given["tpm"],
        "concurrent_requests": given["concurrent"],
    }
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    fail = {"fail": "closed"} if given["fail_closed"] else {}
    if limits:
        settings["limits"] = {**limits, **fail}
    budgets = [_usd(text) for text in given["budgets"]]
    budgets += [_tokens(text) for text in given["token_budgets"]]
    if budgets:
        settings["budgets"] = [{**budget, **fail} for budget in budgets]
    if given["no_hint"]:
        settings["may_hint"] = False
    if given["metadata"]:
        settings["metadata"] = dict(_pair(text) for text in given["metadata"])
    return settings


def body_from(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body of a create or an update: what was given, and nothing else."""
    body = {name: value for name, value in more.items() if value is not None}
    settings = settings_from(given)
    if settings:
        body["settings"] = settings
    if given["expires"] is not None:
        body["expires"] = given["expires"]
    return body


def _usd(text: str) -> dict[str, Any]:
    found = _BUDGET.fullmatch(text.lower())
    if found is None:
        raise click.BadParameter(f"{text!r}: write one like 10usd/day.", param_hint="--budget")
    return {"usd": float(found[1]), "per": found[2]}


def _tokens(text: str) -> dict[str, Any]:
    found = _TOKENS.fullmatch(text.lower())
    if found is None:
        hint = "--token-budget"
        raise click.BadParameter(f"{text!r}: write one like 2m/day.", param_hint=hint)
    return {"tokens": int(found[1]) * _FACTOR[found[2]], "per": found[3]}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r}: write name=text.", param_hint="--metadata")
    return name, value


def say(value: Any, as_json: bool, text: str) -> None:
    """JSON or text."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


def lines_of(views: Iterable[dict[str, Any]]) -> str:
    """One line each: id, status, alias, and what tells them apart."""
    return "\n".join(
        f"{view['id']:<24} {view['status']:<9} {view['alias']:<24} "
        + "  ".join(
            f"{name}={view[name]}"
            for name in ("prefix", "user", "team", "expires_at", "source")
            if view.get(name) and view[name] != "store"
        )
        for view in views
    )


def text_of(view: dict[str, Any]) -> str:
    """All that is known of one, a line each."""
    lines = [f"{name}: {value}" for name, value in view.items() if name != "settings"]
    lines += [f"  {name}: {json.dumps(value)}" for name, value in view.get("settings", {}).items()]
    return "\n".join(lines)


def add_listing(group: click.Group, kind: str, *filters: str) -> None:
    """Add `list`, which follows the pages to their end."""

    def command(url: str, admin_key: str | None, as_json: bool, **given: str | None) -> None:
        api, views, after = AdminApi(url, admin_key), list[dict[str, Any]](), ""
        while True:
            path = path_of(f"{kind}s", limit=1000, after=after or None, **given)
            page = api.call("GET", path)
            views += page["data"]
            if page["next"] is None:
                break
            after = page["next"]
        say({"data": views}, as_json, lines_of(views) or f"there is no {kind} yet")

    decorated = admin_options(command)
    for name in filters:
        decorated = click.option(f"--{name}", help=f"Only those of this {name}.")(decorated)
    group.command("list", help=f"List the {kind}s, those of config.yaml too.")(decorated)


def add_show_and_delete(group: click.Group, kind: str) -> None:
    """Add `show` and `delete`."""

    @group.command("show", help=f"Show a {kind}, by id or alias.")
    @click.argument("name")
    @admin_options
    def show(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
        view = AdminApi(url, admin_key).call("GET", path_of(f"{kind}s", name))
        say(view, as_json, text_of(view))

    @group.command("delete", help=f"Delete a {kind}, by id or alias.")
    @click.argument("name")
    @admin_options
    def delete(name: str, url: str, admin_key: str | None, as_json: bool) -> None:
        answer = AdminApi(url, admin_key).call("DELETE", path_of(f"{kind}s", name))
        say(answer, as_json, f"deleted {answer['id']}")


def add_create(group: click.Group, kind: str, *owners: str) -> None:
    """Add `create`; `owners` are the options that say to whom it belongs."""

    def create(alias: str, url: str, admin_key: str | None, as_json: bool, **given: Any) -> None:
        above = {owner: given.pop(owner) for owner in owners}
        body = body_from(given, alias=alias, **above)
        view = AdminApi(url, admin_key).call("POST", path_of(f"{kind}s"), body)
        text = f"created {view['id']}"
        if "secret" in view:
            text += f"\n{view['secret']}\nThis is the only time that the secret is shown."
        say(view, as_json, text)

    command = setting_options(create)
    for owner in owners:
        command = click.option(f"--{owner}", help=f"Its {owner}, by id or alias.")(command)
    command = click.argument("alias")(admin_options(command))
    group.command("create", help=f"Make a {kind}.")(command)


_CHANGES = (
    click.option("--alias", help="Its new alias."),
    click.option("--enable/--disable", "enabled", default=None, help="Let it in, or refuse."),
    click.option("--if-version", "version", type=int, help="Only if this is its version."),
    click.argument("name"),
)


def add_update(group: click.Group, kind: str, *owners: str) -> None:
    """Add `update`; `owners` as for `add_create`."""

    def update(name: str, url: str, admin_key: str | None, as_json: bool, **given: Any) -> None:
        above = {owner: given.pop(owner) for owner in owners}
        enabled, version = given.pop("enabled"), given.pop("version")
        body = body_from(given, alias=given.pop("alias"), **above)
        if enabled is not None:
            body.setdefault("settings", {})["disabled"] = not enabled
        if not body:
            raise click.UsageError("Say what to change.")
        view = AdminApi(url, admin_key).call("PATCH", path_of(f"{kind}s", name), body, version)
        say(view, as_json, text_of(view))

    command = setting_options(update)
    for owner in owners:
        command = click.option(f"--{owner}", help=f"Its new {owner}, by id or alias.")(command)
    for option in _CHANGES:
        command = option(command)
    text = f"Change a {kind}, by id or alias; what is not given stays. Lists are replaced."
    group.command("update", help=text)(admin_options(command))
