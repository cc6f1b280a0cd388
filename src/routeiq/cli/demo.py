"""`routeiq demo`: the product in a minute, with no key, no network and no other service."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import orjson

from routeiq.cli.tour import Tour
from routeiq.config.environment import PROVIDER_VARIABLES
from routeiq.simulator import CATALOGUE, SimulatedModel, Simulator

START_TIMEOUT_S = 30.0


@click.command()
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Use this config.yaml."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4000, show_default=True, help="0 is any."
)
@click.option("--tour/--no-tour", default=True, help="Show what the gateway does.")
@click.option("--keep/--exit", default=True, help="Go on serving after the tour, or end.")
def demo(path: Path | None, port: int, tour: bool, keep: bool) -> None:
    """Start a simulated provider and the gateway, and show what it does.

    With --config, or with a provider's variable set (OPENAI_API_KEY …), the gateway is started on that
    instead, without the tour: those models cost money.
    """
    real = path is not None or any(os.environ.get(name) for name in PROVIDER_VARIABLES)
    environ = dict(os.environ)
    # As Ctrl-C: the gateway must not be left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        if real:
            config = path
        else:
            click.echo("Starting a simulated provider …", err=True)
            simulator = stack.enter_context(Simulator())
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="routeiq-demo-"))
            config = Path(folder) / "config.yaml"
            config.write_bytes(demo_config(CATALOGUE, simulator.url))
            # What the demo keeps goes with it, whatever stores the operator's own gateway uses.
            environ["DATABASE_URL"] = f"sqlite:///{folder}/routeiq.db"
            environ.pop("REDIS_URL", None)
        click.echo("Starting the gateway …", err=True)
        gateway, url = stack.enter_context(running_gateway(config, port, environ))
        if tour and not real:
            Tour(url=url, simulator_url=simulator.url, models=CATALOGUE).run()
        if keep:
            click.echo(usage(url))
            wait(gateway)


def demo_config(models: tuple[SimulatedModel, ...], simulator_url: str) -> bytes:
    """A config.yaml (JSON is YAML) with one deployment a simulated model."""
    entries = [
        {
            "model_name": model.name,
            "litellm_params": {
                "model": f"openai/{model.name}",
                "api_base": f"{simulator_url}/v1",
                "api_key": "sk-simulated",
            },
            "model_info": {
                "id": model.name,
                "mode": "embedding" if model.embedding_dimensions else "chat",
                "input_cost_per_token": model.input_usd_per_mtok / 1e6,
                "output_cost_per_token": model.output_usd_per_mtok / 1e6,
                "max_input_tokens": model.context_tokens,
                "routeiq": {"capabilities": sorted(model.capabilities)},
            },
        }
        for model in models
    ]
    return orjson.dumps({"model_list": entries}, option=orjson.OPT_INDENT_2)


@contextlib.contextmanager
def running_gateway(
    config: Path | None, port: int, environ: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The gateway in its own process, ready; ended when the block ends."""
    command = [
        sys.executable,
        "-m",
        "routeiq",
        "serve",
        "--insecure-no-auth",
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--config", str(config)] if config else []
    process = subprocess.Popen(  # noqa: S603 - our own command, no shell
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield process, listening_url(process)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Ask it to drain; by force where it does not go."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listening_url(process: subprocess.Popen[str]) -> str:
    """The address from the gateway's announcement.

    Raises:
        click.ClickException: the gateway ended, or said nothing for `START_TIMEOUT_S`.
    """
    said: list[str] = []
    deadline = time.monotonic() + START_TIMEOUT_S
    for line in process.stderr or ():
        said.append(line)
        if " listening on " in line:
            return line.split(" listening on ", 1)[1].split()[0]
        if time.monotonic() > deadline:
            break
    raise click.ClickException("the gateway did not start:\n" + "".join(said))


def usage(url: str) -> str:
    """How to go on."""
    return (
        f"\nThe gateway is running on {url} (no key needed in the demo). In another terminal:\n\n"
        f"  curl -i {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
        '    -d \'{"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}\'\n\n'
        "Any OpenAI client works: base_url is that address with /v1. Ctrl-C ends it."
    )


def wait(gateway: subprocess.Popen[str]) -> None:
    """Until Ctrl-C or the gateway's end."""
    try:
        gateway.wait()
    except KeyboardInterrupt:
        click.echo("\nStopping …", err=True)
