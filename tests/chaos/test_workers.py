"""Workers and supervisors that are killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.chaos.tools import AUTH, Load, RawStream, alive, ask, children, configure, polled
from tests.support.http import call
from tests.support.processes import Gateway, SimulatorProcess, start_gateway, wait_until

pytestmark = pytest.mark.timeout(90)
WORKERS = 4


def workers_of(gateway: Gateway) -> list[int]:
    return children(gateway.pid)


def all_answer(gateway: Gateway, count: int) -> bool:
    """Whether `count` different workers say that they are ready."""
    seen = set()
    for _ in range(count * 12):
        try:
            answer = call(gateway.url + "/routeiq/v1/status", headers=AUTH, timeout=5.0)
        except OSError:
            return False
        seen.add(answer.json().get("worker_id"))
    return len(seen) == count


def test_the_others_go_on_when_a_worker_is_killed(tmp_path: Path, sim: SimulatorProcess) -> None:
    sim.behave("delay_ms=20")
    with start_gateway(configure(tmp_path, sim), workers=WORKERS) as gateway:
        wait_until(lambda: all_answer(gateway, WORKERS), "all workers answer")
        load = Load(gateway, clients=8, fresh=True, stream=False)
        wait_until(lambda: load.count("ok") >= 20, "the load runs")
        victim = workers_of(gateway)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(gateway)) - {victim}) == WORKERS, "it is restarted")
        before = load.count("ok")
        wait_until(lambda: load.count("ok") >= before + 20, "the load goes on")
        wait_until(lambda: all_answer(gateway, WORKERS), "all workers answer again")
        load.stop()
        # Each client can lose the one request that was on the victim; the rest never notices.
        assert load.count("lost") <= 8
        assert load.count("refused") == 0
        assert '"exit_code":-9' in gateway.log()
        gateway.terminate()
        assert gateway.wait(20.0) == 0


def test_connections_in_a_dead_workers_queue_are_served(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    with start_gateway(configure(tmp_path, sim), workers=2) as gateway, ExitStack() as stack:
        wait_until(lambda: all_answer(gateway, 2), "both workers answer")
        victim = workers_of(gateway)[0]
        os.kill(victim, signal.SIGSTOP)  # from now on its connections wait in its queue
        host_port = ("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
        waiting = []
        for _ in range(24):
            client = stack.enter_context(socket.create_connection(host_port, timeout=20.0))
            client.sendall(b"GET /_health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            waiting.append(client)
        time.sleep(0.5)
        served = [one for one in waiting if readable(one)]
        assert 0 < len(served) < len(waiting)
        os.kill(victim, signal.SIGKILL)
        for client in waiting:
            assert client.recv(65536).startswith(b"HTTP/1.1 200"), "a queued connection was lost"


def readable(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20.0)


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path, sim: SimulatorProcess) -> None:
    sim.behave("chunk_ms=700;chunks=4")
    with start_gateway(configure(tmp_path, sim), workers=3) as gateway:
        workers = workers_of(gateway)
        assert len(workers) == 3
        with RawStream(gateway) as stream:
            stream.until(b"data: ", 2)
            gateway.signal(signal.SIGKILL)
            assert stream.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        try:
            wait_until(lambda: not any(map(alive, workers)), "the workers end", 15.0)
        finally:
            for worker in filter(alive, workers):
                os.kill(worker, signal.SIGKILL)
        with pytest.raises(OSError, match="refused"):
            call(gateway.url + "/_health/live", timeout=3.0)


def test_a_crash_loop_backs_off_and_ends_when_the_cause_is_mended(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    """A worker that cannot read its certificate authorities dies at once, again and again."""
    authorities = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authorities))
    path = configure(tmp_path, sim, routeiq={"upstreams": {"ca_file": str(authorities)}})
    with start_gateway(path, workers=2) as gateway:
        wait_until(lambda: all_answer(gateway, 2), "both workers answer")
        authorities.rename(tmp_path / "away.pem")
        victim = workers_of(gateway)[0]
        os.kill(victim, signal.SIGKILL)
        for _ in polled(0.2, 4.0):
            if gateway.log().count("worker died; restarting") >= 4:
                break
        pauses = [
            float(line.split('"pause_s":')[1].split("}")[0].split(",")[0])
            for line in gateway.log().splitlines()
            if "worker died; restarting" in line
        ]
        assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
        assert gateway.log().count("worker died; restarting") < 8
        # Its socket is closed by now: nobody waits in the queue of a worker that does not come back.
        resets = 0
        for _ in range(12):
            try:
                assert ask(gateway, timeout=5.0).status == 200
            except (ConnectionResetError, BrokenPipeError):  # it was just being tried again
                resets += 1
        assert resets < 6
        (tmp_path / "away.pem").rename(authorities)
        wait_until(lambda: all_answer(gateway, 2), "both workers answer again", 20.0)
        gateway.terminate()
        assert gateway.wait(20.0) == 0


def test_sigterm_during_a_crash_loop_ends_the_supervisor(
    tmp_path: Path, sim: SimulatorProcess
) -> None:
    authorities = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authorities))
    path = configure(tmp_path, sim, routeiq={"upstreams": {"ca_file": str(authorities)}})
    with start_gateway(path, workers=2) as gateway:
        authorities.unlink()
        for worker in workers_of(gateway):
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "worker died" in gateway.log(), "the deaths are noticed")
        gateway.terminate()
        assert gateway.wait(15.0) in (0, 1)  # 1 where a worker died of its defect just then
