"""SIGTERM: what was accepted is answered whole, what comes later is told to go elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.tools import (
    AUTH,
    CHAT,
    Load,
    RawStream,
    ask,
    chat_body,
    configure,
    error_code,
    in_flight,
    record_of,
    texts_seen,
)
from tests.support.http import call
from tests.support.processes import SimulatorProcess, start_gateway, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fresh_connections", [False, True], ids=["keep-alive", "fresh"])
def test_sigterm_under_load_cuts_nothing(
    tmp_path: Path,
    sim: SimulatorProcess,
    workers: int,
    stream: bool,
    fresh_connections: bool,
) -> None:
    sim.behave("ttft_ms=30;chunk_ms=10;chunks=5" if stream else "delay_ms=60")
    with start_gateway(configure(tmp_path, sim), workers=workers) as gateway:
        load = Load(gateway, clients=12, fresh=fresh_connections, stream=stream)
        wait_until(lambda: load.count("ok") >= 40, "the load runs")
        gateway.terminate()
        code = gateway.wait(20.0)
        load.stop()
        assert code == 0, gateway.log()
    lost = {text: why for text, (kind, why) in load.outcomes.items() if kind == "lost"}
    assert load.count("ok") >= 40
    assert not {text: lost[text] for text in texts_seen(sim) if text in lost}
    assert not [why for why in lost.values() if "timed out" in why or "not whole" in why]
    refused = [text for text, outcome in load.outcomes.items() if outcome[0] == "refused"]
    assert {load.outcomes[text] for text in refused} == {("refused", "draining")}
    assert {load.answers[text].status for text in refused} == {503}
    assert all(int(load.answers[text].headers["retry-after"]) >= 1 for text in refused)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_stream_finishes_while_readiness_and_new_requests_get_503(
    tmp_path: Path, sim: SimulatorProcess, workers: int
) -> None:
    sim.behave("chunk_ms=250;chunks=10")
    with start_gateway(configure(tmp_path, sim), workers=workers) as gateway:
        with RawStream(gateway) as stream:
            stream.until(b"data: ", 2)
            gateway.terminate()

            def not_ready() -> bool:
                answer = call(gateway.url + "/_health/ready", timeout=3.0)
                return answer.status == 503 and answer.json() == {"status": "draining"}

            wait_until(not_ready, "readiness turns 503", 2.0)
            # Long enough for idle workers to be gone: nobody may be left waiting in a dead queue.
            until, resets = time.monotonic() + 1.0, 0
            while time.monotonic() < until:
                try:
                    answer = ask(gateway, timeout=3.0)
                except (
                    ConnectionResetError,
                    BrokenPipeError,
                ):  # was in the queue of a worker that ended just then
                    resets += 1
                    assert resets < workers
                    continue
                assert (answer.status, error_code(answer)) == (503, "draining")
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["connection"] == "close"
            assert call(gateway.url + "/_health/live", timeout=3.0).status == 200
            assert stream.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert gateway.wait(10.0) == 0
        assert record_of(gateway, stream.id)["outcome"] == "success"
    assert len(texts_seen(sim)) == 1


def test_a_large_request_is_refused_cleanly_while_draining(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    sim.behave("chunk_ms=200;chunks=10", model="sim-small")
    with start_gateway(configure(tmp_path, sim)) as gateway:
        with RawStream(gateway) as stream:
            stream.until(b"data: ", 2)
            gateway.terminate()
            wait_until(lambda: call(gateway.url + "/_health/ready").status == 503, "it drains", 2.0)
            answer = call(gateway.url + CHAT, chat_body("x" * 4_000_000), headers=AUTH)
            assert (answer.status, error_code(answer)) == (503, "draining")
            stream.rest()
        assert gateway.wait(10.0) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_longer_than_the_drain_timeout_is_cut_and_the_process_ends(
    tmp_path: Path, sim: SimulatorProcess, workers: int
) -> None:
    sim.behave("chunk_ms=1000;chunks=24", model="sim-small")
    env = {"ROUTEIQ_DRAIN_TIMEOUT_SECONDS": "0.5"}
    with start_gateway(configure(tmp_path, sim), workers=workers, env=env) as gateway:
        with RawStream(gateway) as stream:
            stream.until(b"data: ", 2)
            gateway.terminate()
            assert gateway.wait(8.0) == 0, gateway.log()
            received = stream.rest()
        assert b'"code":"draining"' in received
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert "Traceback" not in gateway.log()
        record = record_of(gateway, stream.id)
        assert (record["outcome"], record["error"]) == ("error", "draining")
    wait_until(lambda: sim.stats()["in_flight"] == 0, "the provider is let go")


def test_a_plain_request_longer_than_the_drain_timeout_is_answered_with_503(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    sim.behave("hang")
    env = {"ROUTEIQ_DRAIN_TIMEOUT_SECONDS": "0.5"}
    with start_gateway(configure(tmp_path, sim), env=env) as gateway:
        load = Load(gateway, clients=3, fresh=True, stream=False)
        wait_until(lambda: in_flight(gateway) == 6, "three requests wait")
        gateway.terminate()
        code = gateway.wait(8.0)
        load.stop()
        assert code == 0, gateway.log()
        assert "Traceback" not in gateway.log()
    first = [load.outcomes[f"request {client}-1"] for client in range(3)]
    assert first == [("refused", "draining")] * 3


def test_a_stuck_reader_does_not_keep_the_process_alive(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    sim.behave("oversize=8000000", model="sim-small")
    env = {"ROUTEIQ_DRAIN_TIMEOUT_SECONDS": "0.5"}
    with start_gateway(configure(tmp_path, sim), env=env) as gateway, RawStream(gateway) as stream:
        stream.until(b"data: ")
        gateway.terminate()
        assert gateway.wait(8.0) == 0, gateway.log()
