"""The limit on concurrent requests: refused at once, never for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.tools import (
    AUTH,
    RawStream,
    admin,
    ask,
    complaints,
    configure,
    error_code,
    wait_idle,
)
from tests.support.http import call
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

LIMIT = 3


@pytest.fixture(scope="module")
def gateway(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    path = configure(tmp_path_factory.mktemp("gateway"), simulator)
    env = {
        "ROUTEIQ_MAX_CONCURRENT_REQUESTS": str(LIMIT),
        "ROUTEIQ_CB_FAILURE_THRESHOLD": "1000",
    }
    with start_gateway(path, env=env) as running:
        yield running


def fill(stack: ExitStack, gateway: Gateway, count: int) -> None:
    """`count` requests that wait for a provider that does not answer."""
    for _ in range(count):
        stack.enter_context(RawStream(gateway))
    wait_until(lambda: admin(gateway, "status")["in_flight"] == count, f"{count} are under way")


def test_the_next_one_is_refused_and_operators_are_not(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("hang")
    with ExitStack() as stack:
        fill(stack, gateway, LIMIT)
        for path in ("/v1/chat/completions", "/v1/models"):
            body: dict[str, str] | None = {} if "chat" in path else None
            answer = call(gateway.url + path, body, headers=AUTH)
            assert (answer.status, error_code(answer)) == (503, "over_capacity")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["x-request-id"]
        for path in ("/_health/live", "/_health/ready", "/routeiq/v1/status", "/routeiq/v1/models"):
            assert call(gateway.url + path, headers=AUTH).status == 200
        assert len(sim.requests()) == LIMIT
    wait_idle(gateway)
    sim.mend()
    assert ask(gateway).status == 200


@pytest.mark.parametrize("failure", ["status=500", "status=400", "reset", "malformed"])
def test_slots_are_given_back_after_errors(
    gateway: Gateway, sim: SimulatorProcess, failure: str
) -> None:
    sim.behave(failure)
    for stream in (False, True) * LIMIT:
        assert error_code(ask(gateway, stream=stream)) != "over_capacity"
    wait_idle(gateway)
    sim.mend()
    assert ask(gateway).status == 200
    assert not complaints(gateway)


def test_slots_are_given_back_when_clients_leave(gateway: Gateway, sim: SimulatorProcess) -> None:
    for behaviour in ("hang", "chunk_ms=10000", "cut=2"):
        sim.behave(behaviour)
        for _ in range(2):
            with ExitStack() as stack:
                fill(stack, gateway, LIMIT if behaviour != "cut=2" else 0)
            wait_idle(gateway)
    sim.mend()
    assert ask(gateway).status == 200


def test_bad_requests_give_their_slots_back(gateway: Gateway, sim: SimulatorProcess) -> None:
    url = gateway.url + "/v1/chat/completions"
    for _ in range(LIMIT + 1):
        assert call(url, b"{", headers=AUTH).status == 400
        assert call(url, b"{}").status == 401
        assert call(url, b"x" * 40_000_000, headers=AUTH).status == 413
        assert call(gateway.url + "/v1/nowhere", headers=AUTH).status == 404
    wait_idle(gateway)
    assert ask(gateway).status == 200


def test_zero_is_no_limit(tmp_path: Path, sim: SimulatorProcess) -> None:
    path = configure(tmp_path, sim)
    env = {"ROUTEIQ_MAX_CONCURRENT_REQUESTS": "0"}
    with start_gateway(path, env=env) as gateway, ExitStack() as stack:
        sim.behave("hang")
        fill(stack, gateway, 60)
        sim.mend()
        assert ask(gateway).status == 200
