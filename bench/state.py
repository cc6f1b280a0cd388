"""`python -m bench.state`: what keys, limits, conversations, experiments and the decision log cost a request.

One gateway each, in turn, against the same gateway without any of them. The page is the output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import click
import yaml

from . import kernel
from .gateways import (
    MASTER_KEY,
    PLAIN,
    Site,
    Target,
    bearer,
    direct,
    routeiq_config,
    start_simulator,
)
from .launch import ROOT, Lab, LaunchError, free_port, routeiq, wait_answer
from .load import Generator, LoadError
from .measure import Bench, Plan

KEY = "sk-bench-limited-0123456789"
SLOTS_KEY = "sk-bench-slots-0123456789"
PLENTY = 1_000_000_000
LIMITS = {
    "limits": {"requests_per_minute": PLENTY, "tokens_per_minute": PLENTY},
    "budgets": [{"usd": 1_000_000, "per": "month"}],
}
WITH_SLOTS = {**LIMITS, "limits": {**LIMITS["limits"], "concurrent_requests": PLENTY}}  # type: ignore[dict-item]
ACCESS = {"keys": {"limited": {"key": KEY, **LIMITS}, "slots": {"key": SLOTS_KEY, **WITH_SLOTS}}}
EXPERIMENT = {
    "split": {
        "models": [PLAIN.name],
        "variants": {"control": {}, "other": {"profile": "eco"}},
        "subject": ["request"],
    }
}
SESSION = {"x-routeiq-session-id": "conversation-1"}
NO_STORE = {"store": False}

Column = tuple[str, dict[str, Any], dict[str, str]]


def columns() -> list[Column]:
    """Name, what stands under `routeiq:`, and the headers of the requests."""
    everything = {"access": ACCESS, "experiments": EXPERIMENT, "decisions": NO_STORE}
    return [
        ("nothing", {"decisions": NO_STORE}, bearer(MASTER_KEY)),
        ("decision log", {}, bearer(MASTER_KEY)),
        ("key", {"access": ACCESS, "decisions": NO_STORE}, bearer(KEY)),
        ("key + conversation + experiment", everything, {**bearer(KEY), **SESSION}),
        ("the same, with slots", everything, {**bearer(SLOTS_KEY), **SESSION}),
    ]


def start(site: Site, column: Column, env: Mapping[str, str]) -> Target:
    """A gateway with this under `routeiq:`."""
    name, section, headers = column
    port = free_port()
    config = site.lab.path / f"state-{port}.yaml"
    config.write_text(yaml.safe_dump({**routeiq_config(site.upstream), "routeiq": section}))
    arguments = ["serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = site.lab.start(
        f"routeiq-{port}",
        routeiq(*arguments, "--workers", "1"),
        env={
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "DATABASE_URL": f"sqlite:///{site.lab.path}/state-{port}.db",
            **env,
        },
        cpus=site.gateway_cpus,
    )
    target = Target(
        name=name,
        title=name,
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.name,
        headers=headers,
        process=process,
    )
    wait_answer(process, target.request(PLAIN))
    return target


@contextlib.contextmanager
def benches(env: Mapping[str, str], rounds: int, generator: str | None) -> Iterator[Bench]:
    """Simulator and all gateways, started; ended with the block."""
    gateway_cpus, simulator_cpus, generator_cpus = kernel.places()
    with Lab() as lab:
        simulator, upstream = start_simulator(lab, simulator_cpus)
        site = Site(lab=lab, gateway_cpus=gateway_cpus, upstream=upstream, others=ROOT)
        yield Bench(
            lab=lab,
            generator=Generator(lab.path, generator_cpus, generator),
            simulator=simulator,
            direct=direct(site),
            targets=[start(site, column, env) for column in columns()],
            plan=Plan(
                rounds=rounds,
                tries=rounds * 2,
                least=100,
                seconds=2,
                warm_seconds=1,
                paced_seconds=1,
            ),
            say=lambda text: click.echo(f"… {text}", err=True),
        )


@click.command()
@click.option("--redis", "redis_url", help="REDIS_URL; without it limits are in the database.")
@click.option("--database", "database_url", help="DATABASE_URL; without it a SQLite file each.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--generator", type=click.Choice(["wrk", "python"]))
def main(
    redis_url: str | None, database_url: str | None, rounds: int, generator: str | None
) -> None:
    """CPU per request with each of them, in milliseconds and as a ratio to nothing of the kind."""
    env = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    try:
        with benches({k: v for k, v in env.items() if v}, rounds, generator) as bench:
            rows = bench.closed(PLAIN, 32)
    except (LaunchError, LoadError) as error:
        raise click.ClickException(str(error)) from error
    found = {row["target"]: row for row in rows}
    least = found["nothing"]["cpu_ms"]
    click.echo("| | CPU ms per request | more than nothing, ms | ratio | p50 ms |")
    click.echo("|---|---:|---:|---:|---:|")
    for name, _, _ in columns():
        row = found[name]
        cpu = row["cpu_ms"]
        click.echo(
            f"| {name} | {cpu:.3f} | {cpu - least:+.3f} | {cpu / least:.2f} | {row['p50_ms']:.2f} |"
        )


if __name__ == "__main__":
    main()
