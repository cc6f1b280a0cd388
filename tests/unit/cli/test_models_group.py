"""`routeiq models`: every command is there, and listing them imports none."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from routeiq.cli.models import COMMANDS, models


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_under_its_name_and_explains_itself(name: str) -> None:
    command = models.get_command(click.Context(models), name)
    assert command is not None
    assert command.name == name
    done = CliRunner().invoke(models, [name, "--help"])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: models {name} ")


def test_the_help_lists_all_commands_in_order_of_use() -> None:
    done = CliRunner().invoke(models, ["--help"])
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    for _, text in COMMANDS.values():
        assert text.split()[0] in done.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    done = CliRunner().invoke(models, ["trian"])
    assert done.exit_code == 2
    assert "trian" in done.output


def test_help_imports_nothing_that_computes() -> None:
    code = (
        "from click.testing import CliRunner; from routeiq.cli.models import COMMANDS, models\n"
        "runner = CliRunner()\n"
        "assert all(runner.invoke(models, [n, '--help']).exit_code == 0 for n in COMMANDS)\n"
        "import sys; print([m for m in ('numpy', 'sklearn', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
