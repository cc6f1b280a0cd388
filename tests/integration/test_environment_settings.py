"""The ROUTEIQ_* variables and the LITELLM_* ones that are read, seen from outside the process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    HARD,
    answered_by,
    assert_discreet,
    assert_error,
    catalogue,
    chat,
    decision_of,
    entry,
    get,
    log_lines,
    write,
)
from tests.support.http import call
from tests.support.processes import (
    MASTER_KEY,
    Gateway,
    SimulatorProcess,
    free_port,
    start_gateway,
    wait_until,
)

ADMIN_KEYS = ("sk-admin-one", "sk-admin-two")


@pytest.fixture(scope="module")
def set_up(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """One gateway with many variables set, none of them as by default."""
    return start(
        {"model_list": catalogue(simulator.url), "routeiq": {"strategy": "round-robin"}},
        env={
            "LITELLM_MASTER_KEY": "sk-from-environment",
            "ROUTEIQ_ADMIN_KEYS": ", ".join(ADMIN_KEYS),
            "ROUTEIQ_STRATEGY": "lowest-cost",
            "ROUTEIQ_MAX_CONCURRENT_REQUESTS": "2",
            "ROUTEIQ_LOG_LEVEL": "warning",
        },
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@contextlib.contextmanager
def by_environment(env: dict[str, str], folder: Path) -> Iterator[Gateway]:
    """`routeiq serve` without a single argument."""
    port = int(env["ROUTEIQ_PORT"])
    kept = {"PATH": os.environ["PATH"], **env}
    process = Gateway(("serve",), kept)
    process.url = f"http://{env['ROUTEIQ_HOST']}:{port}"
    with contextlib.closing(process):
        process.wait_ready(process.ready)
        yield process


@pytest.mark.parametrize("key", ["sk-from-environment", *ADMIN_KEYS])
def test_keys_from_the_environment(set_up: Gateway, key: str) -> None:
    answer = call(f"{set_up.url}/routeiq/v1/status", headers=bearer(key))
    assert answer.status == 200
    shown = call(f"{set_up.url}/routeiq/v1/config", headers=bearer(key))
    for secret in ("sk-from-environment", *ADMIN_KEYS):
        assert secret not in shown.body.decode()
    assert_discreet(shown)
    assert shown.json()["settings"]["admin_keys"] == 2
    assert shown.json()["settings"]["master_key"] == "set"


def test_the_environments_master_key_wins_over_the_files(set_up: Gateway) -> None:
    assert_error(get(set_up, "/v1/models"), 401, "invalid_api_key")


def test_admin_keys_may_use_models_and_are_told_apart(set_up: Gateway) -> None:
    for number, key in enumerate(ADMIN_KEYS, 1):
        answer = chat(set_up, headers=bearer(key))
        kept = call(
            f"{set_up.url}/routeiq/v1/decisions/{answer.headers['x-routeiq-decision-id']}",
            headers=bearer(key),
        )
        assert kept.json()["key"] == f"admin-{number}"


def test_strategy_from_the_environment_wins(set_up: Gateway) -> None:
    answer = chat(set_up, "auto", HARD, headers=bearer(ADMIN_KEYS[0]))
    assert answer.headers["x-routeiq-strategy"] == "lowest-cost"
    assert answered_by(answer) == "sim-nano"
    shown = call(f"{set_up.url}/routeiq/v1/strategies", headers=bearer(ADMIN_KEYS[0])).json()
    assert shown["active"] == "lowest-cost"
    assert {"prior", "round-robin", "weighted"} <= set(shown["available"])


@pytest.mark.parametrize("strategy", [None, "round-robin"])
def test_strategy_from_the_file(
    start: StartGateway, simulator: SimulatorProcess, strategy: str | None
) -> None:
    other = start(
        {
            "model_list": catalogue(simulator.url),
            "routeiq": {"strategy": strategy} if strategy else {},
        }
    )
    answer = chat(other, "auto", HARD)
    assert answer.headers["x-routeiq-strategy"] == (strategy or "prior")
    assert decision_of(other, answer)["strategy"] == (strategy or "prior")


def test_more_than_max_concurrent_requests_are_refused(
    set_up: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("delay_ms=1200")
    headers = bearer(ADMIN_KEYS[0])
    statuses: list[int] = []

    def one() -> None:
        statuses.append(chat(set_up, headers=headers).status)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sim.stats()["in_flight"] == 2, "two requests under way")
    refused = chat(set_up, headers=headers)
    assert_error(refused, 503, "over_capacity")
    assert refused.headers["retry-after"] == "1"
    for path in ("/_health/live", "/_health/ready", "/health"):
        assert call(set_up.url + path).status == 200, "probes are never refused"
    assert call(f"{set_up.url}/routeiq/v1/status", headers=headers).json()["in_flight"] == 2
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    sim.reset()
    assert chat(set_up, headers=headers).status == 200


@pytest.mark.parametrize(("level", "told"), [("info", True), ("warning", False)])
def test_log_level(simulator: SimulatorProcess, tmp_path: Path, level: str, told: bool) -> None:
    path = write(tmp_path, {"model_list": catalogue(simulator.url)})
    with start_gateway(path, env={"ROUTEIQ_LOG_LEVEL": level}) as other:
        other.terminate()
        assert other.wait() == 0
        said = [one["message"] for one in log_lines(other)]
    assert ("drained" in said) is told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_host_port_workers_and_path_from_the_environment(
    simulator: SimulatorProcess, tmp_path: Path, workers: str
) -> None:
    path = write(tmp_path, {"model_list": catalogue(simulator.url)})
    env = {
        "ROUTEIQ_HOST": "127.0.0.1",
        "ROUTEIQ_PORT": str(free_port()),
        "ROUTEIQ_WORKERS": workers,
        "LITELLM_CONFIG_PATH": str(path),
    }
    with by_environment(env, tmp_path) as other:
        assert chat(other).status == 200
        wait_until(lambda: "listening on" in other.log(), "the announcement")
        assert f"listening on {other.url} ({workers} worker" in other.log()
        assert str(path) in other.log()
        seen = {get(other, "/routeiq/v1/status").json()["worker_id"] for _ in range(40)}
        assert (len(seen) > 1) == (workers == "2")


@pytest.mark.parametrize(
    ("upstreams", "env", "works"),
    [
        ({}, {}, True),
        ({"check_addresses": True}, {}, False),
        ({"check_addresses": True}, {"ROUTEIQ_SSRF_ALLOW_PRIVATE": "true"}, True),
        ({"check_addresses": True}, {"ROUTEIQ_SSRF_ALLOW_PRIVATE": "false"}, False),
        ({"check_addresses": True}, {"ROUTEIQ_SSRF_HOST_ALLOWLIST": "localhost,127.0.0.1"}, True),
        ({"check_addresses": True}, {"ROUTEIQ_SSRF_CIDR_ALLOWLIST": "127.0.0.0/8"}, True),
        ({"check_addresses": True}, {"ROUTEIQ_SSRF_CIDR_ALLOWLIST": "10.0.0.0/8"}, False),
    ],
    ids=["unchecked", "checked", "private", "not-private", "host", "cidr", "other-cidr"],
)
def test_addresses_are_checked_where_it_is_asked_for(
    start: StartGateway,
    sim: SimulatorProcess,
    upstreams: dict[str, Any],
    env: dict[str, str],
    works: bool,
) -> None:
    other = start(
        {
            "model_list": [entry("local", sim.url)],
            "router_settings": {"num_retries": 0},
            "routeiq": {"upstreams": upstreams},
        },
        env=env,
    )
    answer = chat(other, "local")
    if works:
        assert answered_by(answer) == "local"
    else:
        assert_error(answer, 502, "upstream_error")
        assert_discreet(answer, "127.0.0.1", str(urlsplit(sim.url).port))
        assert sim.requests() == []


def test_without_a_file_a_providers_variables_are_enough(
    sim: SimulatorProcess, tmp_path: Path
) -> None:
    env = {
        "ROUTEIQ_HOST": "127.0.0.1",
        "ROUTEIQ_PORT": str(free_port()),
        "ROUTEIQ_WORKERS": "1",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "OPENAI_API_KEY": "sk-mine",
        "OPENAI_API_BASE": f"{sim.url}/v1",
    }
    before = Path.cwd()
    os.chdir(tmp_path)  # no ./config.yaml here
    try:
        with by_environment(env, tmp_path) as other:
            assert answered_by(chat(other, "openai/sim-small")) == "openai/sim-small"
    finally:
        os.chdir(before)
    (asked,) = sim.requests()
    assert asked["headers"]["authorization"] == "Bearer sk-mine"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ROUTEIQ_WORKER", "2", "ROUTEIQ_WORKERS"),
        ("ROUTEIQ_PORT", "http", "ROUTEIQ_PORT"),
        ("ROUTEIQ_LOG_LEVEL", "loud", "ROUTEIQ_LOG_LEVEL"),
        ("ROUTEIQ_STRATEGY", "magic", "magic"),
        ("ROUTEIQ_SSRF_CIDR_ALLOWLIST", "everything", "ROUTEIQ_SSRF_CIDR_ALLOWLIST"),
    ],
)
def test_a_wrong_variable_stops_the_start_and_is_named(
    simulator: SimulatorProcess, tmp_path: Path, name: str, value: str, says: str
) -> None:
    path = write(tmp_path, {"model_list": catalogue(simulator.url)})
    done = subprocess.run(
        [sys.executable, "-m", "routeiq", "serve", "--config", str(path), "--host", "127.0.0.1"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], name: value},
        timeout=30,
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
