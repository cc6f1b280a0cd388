"""The `routeiq` command as a person runs it: exit codes, what is printed, and no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from routeiq import __version__
from tests.integration.helpers import EASY, HARD, UPSTREAM_KEY, catalogue, chat, entry, write
from tests.support.http import call
from tests.support.processes import MASTER_KEY, SimulatorProcess, free_port, start_gateway


def routeiq(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end with a clean environment."""
    return subprocess.run(
        [sys.executable, "-m", "routeiq", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
    )


@pytest.fixture
def config(simulator: SimulatorProcess, tmp_path: Path) -> Path:
    return write(tmp_path, {"model_list": catalogue(simulator.url)})


def test_the_demo_runs_in_seconds_and_says_what_it_saved() -> None:
    started = time.monotonic()
    done = routeiq("demo", "--exit", "--port", "0")
    took = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert took < 10, f"{took:.1f} s"
    saved = re.search(r"would have cost \$([0-9.]+): (\d+)% saved", done.stdout)
    assert saved, done.stdout
    assert int(saved[2]) > 0
    assert done.stdout.count("chosen ") >= 6
    assert "2 attempt(s)" in done.stdout, "the failing provider was replaced"
    assert "Traceback" not in done.stdout + done.stderr


def test_the_demo_goes_on_serving_until_it_is_interrupted() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "routeiq", "demo", "--no-tour", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        assert call(f"http://127.0.0.1:{port}/v1/chat/completions", body).status == 200
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    with pytest.raises(OSError, match="refused"):
        call(f"http://127.0.0.1:{port}/_health/live")


def test_the_demo_starts_the_real_thing_with_a_config(config: Path) -> None:
    done = routeiq("demo", "--exit", "--port", "0", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "saved" not in done.stdout, "no tour: those models cost money"


def refuses(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2, done.stderr
    for text in said:
        assert text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_serve_refuses_without_a_key(simulator: SimulatorProcess, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"model_list": catalogue(simulator.url)}))
    done = routeiq("serve", "--config", str(path), "--host", "127.0.0.1")
    refuses(done, "LITELLM_MASTER_KEY", "--insecure-no-auth")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.example"])
def test_serve_refuses_to_be_insecure_for_others(config: Path, host: str) -> None:
    done = routeiq("serve", "--config", str(config), "--insecure-no-auth", "--host", host)
    refuses(done, "--insecure-no-auth", repr(host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_insecure_on_loopback_lets_everybody_in(
    simulator: SimulatorProcess, tmp_path: Path, host: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"model_list": catalogue(simulator.url)}))
    with start_gateway(path, "--insecure-no-auth", "--host", host) as gateway:
        assert call(f"{gateway.url}/v1/models").status == 200
        assert call(f"{gateway.url}/routeiq/v1/status").status == 200
        assert chat(gateway).status == 200, "a key that is not known is no reason to refuse"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_refuses_a_port_in_use(config: Path, workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = routeiq(
            *("serve", "--config", str(config), "--host", "127.0.0.1"),
            *("--port", port, "--workers", workers),
        )
    refuses(done, port, "--port")


def test_two_gateways_do_not_share_a_port_by_accident(config: Path) -> None:
    with start_gateway(config, workers=2) as gateway:
        port = gateway.url.rpartition(":")[2]
        done = routeiq(
            *("serve", "--config", str(config), "--host", "127.0.0.1"),
            *("--port", port, "--workers", "2"),
        )
        refuses(done, port)
        assert chat(gateway).status == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_list: [", "config.yaml"),
        ("model_lst: []", "model_list"),
        ("routeiq: {serverr: {}}", "server"),
        ("{}", "model_list"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    refuses(routeiq("serve", "--config", str(path), env={"LITELLM_MASTER_KEY": "sk-x"}), says)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refuses(routeiq("serve", "--config", str(tmp_path / "none.yaml")), "none.yaml")


def test_check_says_what_was_understood_and_hides_keys(config: Path) -> None:
    done = routeiq("check", "--config", str(config))
    assert done.returncode == 0, done.stdout
    assert "sim-small" in done.stdout
    assert "The gateway would start: 0 error(s)" in done.stdout
    told = json.loads(routeiq("check", "--config", str(config), "--json").stdout)
    assert told["ok"] is True
    assert {one["name"] for one in told["models"]} >= {"sim-small", "sim-embed"}
    everything = done.stdout + json.dumps(told)
    assert UPSTREAM_KEY not in everything
    assert MASTER_KEY not in everything


def test_check_fails_where_serve_would(simulator: SimulatorProcess, tmp_path: Path) -> None:
    unknown = {"model_name": "x", "litellm_params": {"model": "no-such-provider/x"}}
    path = write(tmp_path, {"model_list": [entry("a", simulator.url), unknown]})
    done = routeiq("check", "--config", str(path))
    assert done.returncode == 2
    assert "no-such-provider" in done.stdout
    refuses(routeiq("serve", "--config", str(path), "--port", "0"), "no-such-provider")


def test_explain_for_people_and_machines(config: Path) -> None:
    text = routeiq("explain", "--config", str(config), EASY)
    assert text.returncode == 0, text.stderr
    assert "because" in text.stdout
    easy = json.loads(routeiq("explain", "--config", str(config), "--json", EASY).stdout)
    hard = json.loads(routeiq("explain", "--config", str(config), "--json", HARD).stdout)
    assert text.stdout.startswith(f"{easy['model']} ({easy['deployment']})")
    assert easy["model"] != hard["model"]
    assert hard["candidates"][0]["deployment"] == hard["deployment"]
    system = routeiq(
        *("explain", "--config", str(config), "--json", "--system", "word " * 8_000, EASY)
    )
    assert json.loads(system.stdout)["input_tokens"] > easy["input_tokens"] + 9_000


def test_explain_names_what_it_does_not_know(config: Path) -> None:
    done = routeiq("explain", "--config", str(config), "--profile", "nope", EASY)
    assert (done.returncode, "'nope'" in done.stderr) == (1, True)
    done = routeiq("explain", "--config", str(config), "--model", "sim-smal", EASY)
    assert (done.returncode, "sim-small" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [["version"], ["--version"]])
def test_version(how: list[str]) -> None:
    done = routeiq(*how)
    assert done.returncode == 0
    assert __version__ in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_accepts(shell: str) -> None:
    done = routeiq("completion", shell)
    assert done.returncode == 0
    assert "_ROUTEIQ_COMPLETE" in done.stdout
    found = shutil.which(shell)
    if found is not None:
        checked = subprocess.run([found, "-n"], input=done.stdout, text=True, timeout=20)
        assert checked.returncode == 0


def test_completion_offers_the_commands_and_their_options() -> None:
    env = {"_ROUTEIQ_COMPLETE": "bash_complete", "COMP_WORDS": "routeiq ", "COMP_CWORD": "1"}
    offered = routeiq(env=env)
    assert {"serve", "demo", "check", "explain"} <= {
        line.partition(",")[2] for line in offered.stdout.splitlines()
    }
    env |= {"COMP_WORDS": "routeiq serve --w", "COMP_CWORD": "2"}
    assert "plain,--workers" in routeiq(env=env).stdout


def test_schema_is_json_schema_of_the_file() -> None:
    found = json.loads(routeiq("schema").stdout)
    assert {"model_list", "router_settings", "routeiq"} <= found["properties"].keys()
    assert found["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["serve", "--port", "70000"], ["serve", "--workers", "0"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = routeiq(*arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_help_lists_every_command_without_importing_the_server() -> None:
    done = routeiq("--help")
    assert all(name in done.stdout for name in ("serve", "demo", "check", "simulate", "schema"))
    code = (
        "import sys; from routeiq.cli.main import group; group(['--help'], standalone_mode=False);"
        "assert 'uvicorn' not in sys.modules, 'the server was imported'"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
