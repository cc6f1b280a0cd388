"""`routeiq keys`, `users` and `teams` against a running gateway: what they make holds there at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.access import Fleet, models, routeiq, shared_fleet, sqlite_fleet, until
from tests.integration.helpers import write
from tests.support.processes import MASTER_KEY, SimulatorProcess, free_port


@pytest.fixture(scope="module")
def sqlite(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    path = write(tmp_path_factory.mktemp("sqlite"), {"model_list": models(simulator.url)})
    with sqlite_fleet(path) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    path = write(tmp_path_factory.mktemp("shared"), {"model_list": models(simulator.url)})
    with shared_fleet(path) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "shared"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    found: Fleet = request.getfixturevalue(request.param)
    return found


def run(fleet: Fleet, *arguments: str, key: str = MASTER_KEY) -> subprocess.CompletedProcess[str]:
    env = {"ROUTEIQ_URL": fleet.gateways[0].url, "LITELLM_MASTER_KEY": key}
    return routeiq(*arguments, env=env)


def said(fleet: Fleet, *arguments: str) -> str:
    """What a command that must succeed printed."""
    done = run(fleet, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def shown(fleet: Fleet, *arguments: str) -> Any:
    return json.loads(said(fleet, *arguments, "--json"))


def test_a_key_of_the_command_line_works_at_once_on_every_worker(fleet: Fleet) -> None:
    printed = said(fleet, "keys", "create", "from-cli")
    id_line, secret, warning = printed.splitlines()
    assert id_line.startswith("created key-")
    assert secret.startswith("sk-riq-")
    assert "only time" in warning
    assert set(fleet.statuses(secret)) == {200}
    assert secret not in said(fleet, "keys", "list") + said(fleet, "keys", "show", "from-cli")
    new = shown(fleet, "keys", "rotate", "from-cli", "--grace", "600")["secret"]
    assert set(fleet.statuses(new) + fleet.statuses(secret)) == {200}
    assert "revoked" in said(fleet, "keys", "revoke", "from-cli")
    until(lambda: set(fleet.statuses(new) + fleet.statuses(secret)) == {401}, "refused", 1.0)
    assert "revoked" in said(fleet, "keys", "list")
    assert "deleted" in said(fleet, "keys", "delete", "from-cli")
    assert run(fleet, "keys", "show", "from-cli").returncode != 0


def test_every_option_reaches_the_gateway(sqlite: Fleet) -> None:
    said(sqlite, "teams", "create", "crew", "--budget", "500usd/month", "--fail-closed")
    said(sqlite, "users", "create", "ann", "--team", "crew", "--tpm", "200000")
    options = (
        ["--user", "ann", "--model", "sim-s*", "--model", "sim-nano", "--deny", "sim-large"],
        ["--profile", "eco", "--rpm", "60", "--tpm", "5000", "--concurrent", "3", "--no-hint"],
        ["--budget", "1.5usd/day", "--token-budget", "2m/week", "--permission", "keys.read"],
        ["--tag", "blue", "--metadata", "owner=Ann", "--expires", "30d"],
    )
    made = shown(sqlite, "keys", "create", "whole", *(one for some in options for one in some))
    found = sqlite.read("/keys/whole")
    assert found["settings"] == {
        "models": ["sim-s*", "sim-nano"],
        "denied_models": ["sim-large"],
        "profiles": ["eco"],
        "permissions": ["keys.read"],
        "may_hint": False,
        "tags": ["blue"],
        "limits": {
            "requests_per_minute": 60,
            "tokens_per_minute": 5000,
            "concurrent_requests": 3,
        },
        "budgets": found["settings"]["budgets"],
        "metadata": {"owner": "Ann"},
    }
    budgets = [
        (one.get("usd"), one.get("tokens"), one["per"]) for one in found["settings"]["budgets"]
    ]
    assert budgets == [(1.5, None, "day"), (None, 2_000_000, "week")]
    assert found["expires_at"] is not None
    assert found["user"] == sqlite.read("/users/ann")["id"]
    team = sqlite.read("/teams/crew")
    assert team["settings"]["budgets"][0]["fail"] == "closed"
    assert sqlite.chat(made["secret"], "sim-large").status == 403
    answer = sqlite.chat(made["secret"], "sim-nano")
    assert answer.status == 200
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    levels = {row["level"] for row in sqlite.read("/usage", key=made["secret"])["limits"]}
    assert levels == {"key", "user"}
    changed = shown(sqlite, "keys", "update", "whole", "--rpm", "7", "--alias", "renamed")
    assert changed["settings"]["limits"]["requests_per_minute"] == 7
    assert changed["settings"]["limits"]["tokens_per_minute"] == 5000
    assert run(sqlite, "keys", "update", "renamed", "--rpm", "8", "--if-version", "1").returncode
    assert sqlite.read("/keys/renamed")["settings"]["limits"]["requests_per_minute"] == 7
    said(sqlite, "users", "update", "ann", "--disable")
    until(lambda: set(sqlite.statuses(made["secret"], model="sim-nano")) == {401}, "off", 1.0)
    said(sqlite, "users", "update", "ann", "--enable")
    until(lambda: sqlite.chat(made["secret"], "sim-nano").status == 200, "on", 1.0)
    listed = shown(sqlite, "keys", "list", "--team", "crew")["data"]
    assert [one["alias"] for one in listed] == ["renamed"]
    assert shown(sqlite, "keys", "list", "--user", "ann")["data"] == listed


def test_what_goes_wrong_is_said_without_a_traceback(sqlite: Fleet) -> None:
    said(sqlite, "keys", "create", "twice")
    plain = sqlite.key(permissions=["keys.read"])
    done = [
        run(sqlite, "keys", "create", "twice"),
        run(sqlite, "keys", "create", "other", key=plain.secret),
        run(sqlite, "keys", "list", key="sk-wrong"),
        run(sqlite, "keys", "revoke", "nobody"),
        run(sqlite, "teams", "create", "x", "--budget", "ten dollars"),
        routeiq("keys", "list", "--url", f"http://127.0.0.1:{free_port()}"),
    ]
    words = [
        "twice",
        "keys.write",
        "Incorrect API key",
        "nobody",
        "10usd/day",
        "No gateway answers",
    ]
    for one, word in zip(done, words, strict=True):
        assert one.returncode != 0
        assert word in one.stderr, one.stderr
        assert "Traceback" not in one.stderr
        assert one.stdout == ""
    assert run(sqlite, "keys", "list", key=plain.secret).returncode == 0
