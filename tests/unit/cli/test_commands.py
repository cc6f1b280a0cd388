from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from routeiq._version import __version__
from routeiq.cli import main as entry_point
from routeiq.cli.demo import demo_config
from routeiq.cli.explain import render
from routeiq.cli.main import COMMANDS, group
from routeiq.cli.serve import is_loopback, require_authentication
from routeiq.config.loader import load_config
from routeiq.config.model import Config
from routeiq.config.settings import Settings
from routeiq.exceptions import ConfigError
from routeiq.simulator import CATALOGUE

URL = "http://127.0.0.1:9"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "config.yaml"
    made.write_bytes(demo_config(CATALOGUE, URL))
    return made


def test_every_command_exists_and_its_help_is_the_tables() -> None:
    context = click.Context(group)
    assert group.list_commands(context) == list(COMMANDS)
    for name, (_, text) in COMMANDS.items():
        command = group.get_command(context, name)
        assert command is not None
        assert command.help
        assert CliRunner().invoke(group, [name, "--help"]).exit_code == 0
        assert text.split()[0] in CliRunner().invoke(group, ["--help"]).output


def test_an_unknown_command_is_none() -> None:
    assert group.get_command(click.Context(group), "nonsense") is None


def test_version() -> None:
    assert __version__ in CliRunner().invoke(group, ["version"]).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = CliRunner().invoke(group, ["completion", shell])
    assert done.exit_code == 0
    assert "_ROUTEIQ_COMPLETE" in done.output


def test_completion_of_another_shell() -> None:
    assert CliRunner().invoke(group, ["completion", "tcsh"]).exit_code == 2


def test_the_demos_configuration_is_one_that_loads(path: Path) -> None:
    config = load_config(str(path), {})
    assert {one.id for one in config.deployments} == {model.name for model in CATALOGUE}
    assert all(one.facts.input_usd_per_token is not None for one in config.deployments)


@pytest.mark.parametrize("model", ["auto", "sim-large"])
def test_explain(path: Path, model: str) -> None:
    arguments = ["explain", "-c", str(path), "--model", model, "Say hello."]
    told = json.loads(CliRunner().invoke(group, [*arguments, "--json"]).output)
    text = CliRunner().invoke(group, arguments).output
    assert told["requested"] == model
    assert text.startswith(f"{told['model']} ({told['deployment']})\n")
    assert (model == "auto") or (told["model"] == model)


def test_explain_shows_unknown_costs_and_what_was_left_out() -> None:
    shown = render(
        {
            "model": "a",
            "deployment": "a-1",
            "reason": "why",
            "strategy": "s",
            "profile": None,
            "input_tokens": 3,
            "duration_ms": 0.1,
            "candidates": [{"model": "a", "score": 1.0, "utility": 0.5, "cost_usd": None}],
            "exclusions": [{"deployment": "b-1", "reason": "too small"}],
        }
    )
    assert "unknown" in shown
    assert "not considered: b-1: too small" in shown


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


@pytest.mark.parametrize(
    ("host", "insecure", "master", "admins", "refused"),
    [
        ("0.0.0.0", False, "sk-x", (), False),
        ("0.0.0.0", False, None, ("sk-a",), False),
        ("127.0.0.1", False, None, (), True),
        ("127.0.0.1", True, None, (), False),
        ("0.0.0.0", True, None, (), True),
        ("0.0.0.0", True, "sk-x", (), True),
    ],
)
def test_who_may_serve_without_authentication(
    host: str, insecure: bool, master: str | None, admins: tuple[str, ...], refused: bool
) -> None:
    config = Config(settings=Settings(admin_keys=admins), master_key=master)
    if refused:
        with pytest.raises(ConfigError):
            require_authentication(config, host, insecure=insecure)
    else:
        require_authentication(config, host, insecure=insecure)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["check", "-c", "none.yaml"], 2, "none.yaml"),
        (["serve", "-c", "none.yaml"], 2, "none.yaml"),
        (["explain", "-c", "CONFIG", "--model", "sim-smal", "x"], 1, "'sim-small'"),
        (["explain", "-c", "CONFIG", "--profile", "nope", "x"], 1, "'nope'"),
        (["serve", "-c", "CONFIG"], 2, "LITELLM_MASTER_KEY"),
    ],
)
def test_errors_are_text_and_an_exit_code(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    given = [str(path) if one == "CONFIG" else one for one in arguments]
    monkeypatch.setattr("sys.argv", ["routeiq", *given])
    monkeypatch.chdir(path.parent)
    with pytest.raises(SystemExit) as left:
        entry_point()
    said = capsys.readouterr()
    assert left.value.code == code
    assert says in said.out + said.err
