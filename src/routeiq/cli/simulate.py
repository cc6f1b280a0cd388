"""`routeiq simulate`."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import click

from routeiq.exceptions import ConfigError, Problem
from routeiq.simulator import CATALOGUE, Simulator, load_models

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--models", type=_FILE, help="YAML or JSON list of models instead of the catalogue.")
@click.option(
    "--latency",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Scale of the models' own speed: 0 answers at once, 1 as fast as each model says.",
)
@click.option("--tls-cert", type=_FILE, help="PEM certificate chain: serve HTTPS.")
@click.option("--tls-key", type=_FILE, help="PEM private key of --tls-cert.")
def simulate(
    host: str,
    port: int,
    models: Path | None,
    latency: float,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Run a programmable OpenAI-compatible provider until it is interrupted.

    Every behaviour it knows is shown in docs/reference/simulator.md.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together: give both or neither.")
    tls = _tls(tls_cert, tls_key) if tls_cert and tls_key else None
    found = CATALOGUE if models is None else load_models(models)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # inherited by the simulator's thread
    try:
        with Simulator(found, host=host, port=port, latency=latency, tls=tls) as simulator:
            click.echo(f"simulator listening on {simulator.url}")
            signal.sigwait(signals)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error}") from error


def _tls(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        message, fix = f"{cert} and {key} are not a pair: {error}.", "Give PEM files that match."
        raise ConfigError([Problem(key="--tls-cert", message=message, fix=fix)]) from error
    return context
