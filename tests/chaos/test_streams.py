"""Streams that are cut, starve or lose their client: nothing is silent, nothing is left running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.chaos.tools import (
    RawStream,
    admin,
    ask,
    breaker,
    calls_to,
    complaints,
    configure,
    error_code,
    in_flight,
    record_of,
    wait_idle,
)
from tests.support.processes import (
    MASTER_KEY,
    Gateway,
    SimulatorProcess,
    start_gateway,
    wait_until,
)

pytestmark = pytest.mark.timeout(60)

# The simulator's stream of four pieces: role, four pieces, finish reason, usage, [DONE].
PIECES = 4
EVENTS = PIECES + 4


@pytest.fixture(scope="module")
def gateway(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Two deployments whose breakers never open; a stream may be silent for a second."""
    path = configure(
        tmp_path_factory.mktemp("gateway"),
        simulator,
        routeiq={"upstreams": {"idle_timeout_s": 1.0}},
    )
    with start_gateway(path, env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000"}) as running:
        yield running


@pytest.mark.parametrize("asked", [False, True], ids=["plain", "usage-asked"])
@pytest.mark.parametrize("cut", range(1, EVENTS - 1))
def test_a_stream_cut_at_any_event_ends_with_an_error_event(
    gateway: Gateway, sim: SimulatorProcess, cut: int, asked: bool
) -> None:
    sim.behave(f"chunks={PIECES};cut={cut}", "sim-small")
    options = {"include_usage": True} if asked else None
    with RawStream(gateway, stream_options=options) as stream:
        received = stream.until(b"0\r\n\r\n")
    events = [
        line.removeprefix(b"data: ") for line in received.split(b"\n") if line.startswith(b"data:")
    ]
    assert events[-1] == b"[DONE]"
    error = json.loads(events[-2])["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "stream_cut", None)
    assert "127.0.0.1" not in error["message"]
    usage_hidden = 1 if cut == EVENTS - 1 and not asked else 0
    assert len(events) == cut + 2 - usage_hidden
    assert all(json.loads(one)["choices"] or asked for one in events[:-2])
    record = record_of(gateway, stream.id)
    assert (record["outcome"], record["status"]) == ("stream_cut", 200)
    assert record["error"] == "connection_lost"
    assert record["deployment"] == "first"
    wait_idle(gateway)
    assert calls_to(sim, "sim-large") == 0


def test_the_usage_that_came_before_the_cut_is_recorded(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave(f"chunks={PIECES};cut={EVENTS - 1}", "sim-small")
    with RawStream(gateway) as stream:
        stream.until(b"0\r\n\r\n")
    record = record_of(gateway, stream.id)
    assert record["outcome"] == "stream_cut"
    assert record["output_tokens"] == 24


def test_the_openai_client_raises_when_a_stream_is_cut(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave(f"chunks={PIECES};cut=3", "sim-small")
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=MASTER_KEY, max_retries=0) as client:
        chunks: list[object] = []
        with (
            pytest.raises(openai.APIError, match="ended before") as raised,
            client.chat.completions.create(
                model="pair", messages=[{"role": "user", "content": "hello"}], stream=True
            ) as stream,
        ):
            chunks.extend(stream)
        assert len(chunks) == 3
        assert raised.value.code == "stream_cut"


def test_cut_streams_open_the_breaker(tmp_path: Path, sim: SimulatorProcess) -> None:
    env = {"ROUTEIQ_CB_FAILURE_THRESHOLD": "3", "ROUTEIQ_CB_TIMEOUT_SECONDS": "600"}
    with start_gateway(configure(tmp_path, sim), env=env) as gateway:
        sim.behave("chunks=4;cut=3", "sim-small")
        for number in range(3):
            assert breaker(gateway, "first") == "closed", number
            assert error_code(ask(gateway, stream=True)) == "stream_cut"
        assert breaker(gateway, "first") == "open"
        assert ask(gateway, stream=True).headers["x-routeiq-deployment"] == "second"


def test_a_stream_that_falls_silent_is_cut_after_the_idle_timeout(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("chunk_ms=20000;chunks=4", "sim-small")
    with RawStream(gateway) as stream:
        received = stream.until(b"0\r\n\r\n")
    assert b'"code":"stream_cut"' in received
    record = record_of(gateway, stream.id)
    assert (record["outcome"], record["error"]) == ("stream_cut", "upstream_timeout")
    wait_until(lambda: sim.requests()[0]["disconnected"], "the provider is let go", 3.0)


def test_each_piece_arrives_before_the_next_is_produced(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with start_gateway(configure(tmp_path, sim)) as gateway:
        sim.behave("chunk_ms=1500;chunks=3", "sim-small")
        with RawStream(gateway) as stream:
            for content in range(1, 4):
                received = stream.until(b'"content":', content + 1)  # the first is the role's
                assert received.count(b'"content":') == content + 1
        sim.behave("drip=2;chunks=2", "sim-small")
        with RawStream(gateway, stream_options={"include_usage": True}) as stream:
            # Chunks of one byte: none was held back until its event was whole.
            assert b"[DONE]" not in stream.until(b"\r\n1\r\n", 10)


def test_a_failure_before_the_first_event_is_invisible(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("cut=0", "sim-small")
    answer = ask(gateway, stream=True)
    assert answer.headers["x-routeiq-deployment"] == "second"
    assert error_code(answer) is None
    assert answer.events()[-1] == "[DONE]"


@pytest.mark.parametrize("seen", range(PIECES + 1))
def test_a_client_that_leaves_at_any_event_stops_the_provider(
    gateway: Gateway, sim: SimulatorProcess, seen: int
) -> None:
    """After 0 events it still waits for the head; after 1 it has the role, and so on."""
    steady = f"chunk_ms=600;chunks={PIECES}"
    sim.behave(steady if seen else "hang", "sim-small")
    with RawStream(gateway) as stream:
        wait_until(lambda: calls_to(sim, "sim-small") == 1, "the provider was asked")
        if seen:
            stream.until(b"data: ", seen)
        assert in_flight(gateway) == 2
    wait_until(lambda: sim.requests()[0]["disconnected"], "the provider is let go", 1.5)
    wait_idle(gateway, 1.5)
    record = record_of(gateway, stream.id)
    assert (record["outcome"], record["status"]) == ("client_disconnected", 499)
    assert breaker(gateway, "first") == "closed"
    assert not complaints(gateway)


@pytest.mark.parametrize("behaviour", ["hang", "delay_ms=20000", "drip=300"])
def test_a_client_that_leaves_a_plain_request_stops_the_provider(
    gateway: Gateway, sim: SimulatorProcess, behaviour: str
) -> None:
    sim.behave(behaviour, "sim-small")
    with pytest.raises(TimeoutError):
        ask(gateway, timeout=0.5)
    wait_until(lambda: sim.requests()[0]["disconnected"], "the provider is let go", 1.5)
    wait_idle(gateway, 1.5)
    assert not complaints(gateway)


def test_a_client_that_leaves_between_two_retries_stops_them(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    path = configure(tmp_path, sim, router_settings={"retry_after": 2})
    with start_gateway(path) as gateway:
        sim.behave("status=500")
        with pytest.raises(TimeoutError):
            ask(gateway, timeout=1.0)
        asked = len(sim.requests())
        assert asked == 2
        wait_idle(gateway, 1.5)
        assert admin(gateway, "decisions")["data"][0]["outcome"] == "client_disconnected"
        assert len(sim.requests()) == asked
