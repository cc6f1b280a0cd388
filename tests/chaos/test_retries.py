"""What happens between the first failed attempt and the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.tools import (
    ask,
    breaker,
    calls_to,
    complaints,
    configure,
    error_code,
    pair,
    place,
    wait_idle,
)
from tests.support.processes import Gateway, SimulatorProcess, free_port, start_gateway

pytestmark = pytest.mark.timeout(60)

QUIET = {"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"}
ALONE = "sim-medium"


@pytest.fixture(scope="module")
def gateway(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Two deployments, patient breakers, impatient timeouts, and as many retries as are asked for."""
    path = configure(
        tmp_path_factory.mktemp("gateway"),
        simulator,
        resilience={"retry_budget": 1.0},
        router_settings={"timeout": 1.0},
    )
    with start_gateway(path, env=QUIET) as running:
        yield running


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("status=500", "status_500"),
        ("status=503", "status_503"),
        ("status=429;retry_after=100", "status_429"),
        ("status=408", "status_408"),
        ("reset", "connection_lost"),
        ("close", "connection_lost"),
        ("hang", "upstream_timeout"),
        ("cut=20", "connection_lost"),
        ("malformed", "malformed_answer"),
        ("html", "malformed_answer"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_another_deployment_answers(
    gateway: Gateway, sim: SimulatorProcess, failure: str, code: str, stream: bool
) -> None:
    if stream and failure.startswith(("cut", "malformed")):
        failure, code = "cut=0", "connection_lost"
    sim.behave(failure, "sim-small")
    answer = ask(gateway, stream=stream)
    assert answer.status == 200
    assert answer.headers["x-routeiq-deployment"] == "second"
    assert answer.headers["x-routeiq-attempts"] == "2"
    assert f"fallback from first ({code})" in answer.headers["x-routeiq-reason"]
    assert not stream or answer.events()[-1] == "[DONE]"
    wait_idle(gateway)
    assert not complaints(gateway)


def test_a_port_where_nobody_listens_is_left_for_another_deployment(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    places = [
        place("first", nobody, "sim-small", order=1),
        place("second", sim.url, "sim-large", order=2),
    ]
    with start_gateway(configure(tmp_path, sim, *places)) as gateway:
        answer = ask(gateway)
        assert answer.headers["x-routeiq-deployment"] == "second"
        assert "fallback from first (connect_failed)" in answer.headers["x-routeiq-reason"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_stream_that_sends_its_head_and_then_nothing_is_left_too(
    gateway: Gateway, sim: SimulatorProcess, stream: bool
) -> None:
    sim.behave("ttft_ms=20000", "sim-small")
    answer = ask(gateway, stream=stream, timeout=10.0)
    assert answer.headers["x-routeiq-deployment"] == "second"
    assert "fallback from first (upstream_timeout)" in answer.headers["x-routeiq-reason"]


def test_a_short_retry_after_is_waited_for(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(configure(tmp_path, sim, place("only", sim.url, ALONE))) as gateway:
        sim.behave("status=429;retry_after=1;fail_first=1", ALONE)
        begun = time.monotonic()
        answer = ask(gateway)
        assert (answer.status, answer.headers["x-routeiq-attempts"]) == (200, "2")
        assert time.monotonic() - begun >= 1.0
        first, second = [one["time"] for one in sim.requests()]
        assert second - first >= 0.99


def test_a_long_retry_after_is_passed_on_to_the_client(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with start_gateway(configure(tmp_path, sim, place("only", sim.url, ALONE))) as gateway:
        sim.behave("status=429;retry_after=100", ALONE)
        answer = ask(gateway, timeout=5.0)
        assert (answer.status, answer.headers["retry-after"]) == (429, "100")
        assert calls_to(sim, ALONE) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_same_deployment_is_asked_again_if_it_is_the_only_one(
    tmp_path: Path, sim: SimulatorProcess, stream: bool
) -> None:
    with start_gateway(configure(tmp_path, sim, place("only", sim.url, ALONE))) as gateway:
        sim.behave("status=500;fail_first=2", ALONE)
        answer = ask(gateway, stream=stream)
        assert (answer.status, answer.headers["x-routeiq-attempts"]) == (200, "3")
        sim.behave("status=500", ALONE)
        assert error_code(ask(gateway, stream=stream)) == "upstream_error"
        assert calls_to(sim, ALONE) == 6


@pytest.mark.parametrize(("retries", "calls", "status"), [(0, 1, 502), (1, 2, 200)])
def test_num_retries(
    tmp_path: Path, sim: SimulatorProcess, retries: int, calls: int, status: int
) -> None:
    path = configure(tmp_path, sim, router_settings={"num_retries": retries})
    with start_gateway(path) as gateway:
        sim.behave("status=500", "sim-small")
        assert ask(gateway).status == status
        assert len(sim.requests()) == calls


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_hanging_provider_alone_gives_504(
    tmp_path: Path, sim: SimulatorProcess, stream: bool
) -> None:
    only = place("only", sim.url, ALONE, timeout=0.5, max_retries=1)
    with start_gateway(configure(tmp_path, sim, only)) as gateway:
        sim.behave("hang", ALONE)
        answer = ask(gateway, stream=stream)
        assert (answer.status, error_code(answer)) == (504, "upstream_timeout")
        assert calls_to(sim, ALONE) == 2


@pytest.mark.parametrize(
    ("budget", "least", "most"), [(0.0, 40, 40), (0.2, 45, 75), (1.0, 80, 130)]
)
def test_the_retry_budget_bounds_the_calls_of_a_total_outage(
    tmp_path: Path, sim: SimulatorProcess, budget: float, least: int, most: int
) -> None:
    """40 requests with two retries each would be 120 calls. Up to ten retries are saved up at the start,
    and one a second flows in."""
    path = configure(tmp_path, sim, resilience={"retry_budget": budget})
    with start_gateway(path, env=QUIET) as gateway:
        sim.behave("status=500")
        begun = time.monotonic()
        for _ in range(40):
            assert ask(gateway).status == 502
        passed = time.monotonic() - begun
        assert least <= len(sim.requests()) <= min(120, most + int(passed))


def test_no_retry_once_something_has_reached_the_client(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with start_gateway(configure(tmp_path, sim, *pair(sim.url)), env=QUIET) as gateway:
        sim.behave("cut=3", "sim-small")
        answer = ask(gateway, stream=True)
        assert answer.status == 200
        assert error_code(answer) == "stream_cut"
        assert len(sim.requests()) == 1
        assert calls_to(sim, "sim-large") == 0
        assert breaker(gateway, "second") == "closed"
