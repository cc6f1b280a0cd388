"""The command group. Sub-commands load lazily, so that `routeiq --help` imports no server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

import click

from routeiq._version import __version__
from routeiq.exceptions import ConfigError, RouteIQError

# name: (module:attribute, one line of help). The help stands here so that `--help` imports nothing.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": ("routeiq.cli.serve:serve", "Start the gateway."),
    "demo": ("routeiq.cli.demo:demo", "Simulator, gateway and a short tour; needs no key."),
    "check": (
        "routeiq.cli.check:check",
        "Say what a configuration means, and what is wrong with it.",
    ),
    "explain": ("routeiq.cli.explain:explain", "Which model would answer this prompt, and why."),
    "keys": ("routeiq.cli.keys:keys", "API keys: create, rotate, revoke, limits and budgets."),
    "users": ("routeiq.cli.users:users", "Users, to whom keys belong."),
    "teams": ("routeiq.cli.teams:teams", "Teams, to which users and keys belong."),
    "experiments": (
        "routeiq.cli.experiments:experiments",
        "A/B tests over strategies, profiles and models, and their results.",
    ),
    "decisions": (
        "routeiq.cli.decisions:decisions",
        "The decision log in the database: list, show, export.",
    ),
    "admin": ("routeiq.cli.admin:admin", "Migrate the database, reload the configuration."),
    "models": (
        "routeiq.cli.models:models",
        "Train, evaluate, certify and distribute learned strategies.",
    ),
    "replay": (
        "routeiq.cli.replay:replay",
        "What a strategy would have chosen on recorded traffic, and what it would have saved.",
    ),
    "simulate": (
        "routeiq.cli.simulate:simulate",
        "Run the programmable OpenAI-compatible provider.",
    ),
    "schema": ("routeiq.cli.schema:schema", "Print the JSON Schema of config.yaml."),
    "completion": (
        "routeiq.cli.completion:completion",
        "Print shell completion for bash, zsh or fish.",
    ),
    "version": ("routeiq.cli.version:version", "Print the version."),
}


class LazyGroup(click.Group):
    """A group whose commands are looked up in a table and imported when run."""

    table = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The table's order is the order of the help."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' help from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="routeiq")
def group() -> None:
    """RouteIQ: an AI gateway with learned routing.

    Try it without a key: `routeiq demo`. Documentation: docs/index.md.
    """


def main() -> None:
    """Run the command; print our errors as text, not as a traceback."""
    try:
        group(prog_name="routeiq")
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"{problem.severity}: {problem}", err=True)
        sys.exit(2)
    except RouteIQError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
