"""`routeiq serve`."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from routeiq._version import __version__
from routeiq.config.environment import one_blas_thread
from routeiq.config.loader import load_config
from routeiq.config.model import Config
from routeiq.exceptions import ConfigError, Problem
from routeiq.gateway.runtime import build
from routeiq.gateway.supervisor import Supervisor, bind, default_workers
from routeiq.gateway.worker import WorkerOptions, process_of, run_worker
from routeiq.state.location import is_sqlite, usable_sqlite_url
from routeiq.telemetry.logs import configure_logging


@click.command()
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Path of config.yaml."
)
@click.option("--host", help="Address to listen on [ROUTEIQ_HOST, 0.0.0.0].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port [ROUTEIQ_PORT, 4000]; 0 is any.")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes [ROUTEIQ_WORKERS, one a core]."
)
@click.option(
    "--insecure-no-auth", is_flag=True, help="Let everybody in as admin; loopback addresses only."
)
def serve(
    path: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    insecure_no_auth: bool,
) -> None:
    """Start the gateway.

    Reads --config, else LITELLM_CONFIG_PATH, ./config.yaml, /app/config/config.yaml; with no file, the
    providers whose variables are set (OPENAI_API_KEY …).
    """
    config = load_config(None if path is None else str(path), os.environ)
    settings = config.settings
    run(
        config,
        host=host or settings.host,
        port=settings.port if port is None else port,
        workers=workers or settings.workers or default_workers(),
        insecure=insecure_no_auth,
    )


def run(config: Config, *, host: str, port: int, workers: int, insecure: bool) -> None:
    """Serve until stopped; leaves by `SystemExit`."""
    require_authentication(config, host, insecure=insecure)
    one_blas_thread(os.environ)
    config, said = with_database(config)
    config = replace(config, settings=config.settings.model_copy(update={"workers": workers}))
    output = configure_logging(config.settings.log_level)
    # Every mistake shows here, once, before any worker exists; what was imported is shared by fork.
    build(config, insecure=insecure).router.close()
    process_of(config)
    sockets = bind(host, port, workers)
    address = sockets[0].getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]

    def announce() -> None:
        click.echo(
            f"routeiq {__version__} listening on http://{shown}:{address[1]} "
            f"({workers} worker{'s' if workers > 1 else ''}, {config.source})",
            err=True,
        )

    options = WorkerOptions(output=output, insecure=insecure, on_started=announce)
    for note in (*config.notes, *said):
        click.echo(f"{note.severity}: {note}", err=True)
    if workers == 1:
        run_worker(config, sockets, options)
        sys.exit(0)
    sys.exit(Supervisor(config, sockets, options).run())


def with_database(config: Config) -> tuple[Config, list[Problem]]:
    """The configuration with the database that all workers will open, and what is to be said about it.

    Raises:
        ConfigError: it cannot be used.
    """
    url = config.settings.database_url
    if not is_sqlite(url):
        return config, []
    named = bool(config.environ.get("DATABASE_URL", "").strip())
    url, said = usable_sqlite_url(url, is_default=not named)
    settings = config.settings.model_copy(update={"database_url": url})
    notes = [Problem(key="DATABASE_URL", message=said, severity="warning")] if said else []
    return replace(config, settings=settings), notes


def require_authentication(config: Config, host: str, *, insecure: bool) -> None:
    """Refuse to serve everybody by accident.

    Raises:
        ConfigError: no key is configured, or authentication is off on an address others can reach.
    """
    if insecure:
        if not is_loopback(host):
            raise ConfigError(
                [
                    Problem(
                        key="--insecure-no-auth",
                        message=f"works on a loopback address only, not on {host!r}.",
                        fix="Add --host 127.0.0.1, or set LITELLM_MASTER_KEY instead.",
                    )
                ]
            )
        return
    if not config.master_key and not config.settings.admin_keys:
        raise ConfigError(
            [
                Problem(
                    key="LITELLM_MASTER_KEY",
                    message="is not set, so nobody could be told from anybody.",
                    fix="Set it (for example to the output of `openssl rand -hex 24`), or, for a trial "
                    "on this machine only, use --insecure-no-auth --host 127.0.0.1.",
                )
            ]
        )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
