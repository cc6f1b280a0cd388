"""One worker process: uvicorn on given sockets, a runtime, and a drain that cuts nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import uvloop

from routeiq.config.model import Config
from routeiq.gateway.app import Gateway
from routeiq.gateway.process import Process, worker_name
from routeiq.gateway.reload import Reloader
from routeiq.gateway.runtime import build
from routeiq.gateway.server import Server, make_server
from routeiq.ports import SystemClock
from routeiq.state.bundle import open_state
from routeiq.telemetry.access_log import AccessLog
from routeiq.telemetry.output import Output

logger = logging.getLogger("routeiq.worker")

# After the last request has left, the listener stays open this long: clients with keep-alive connections get
# a clean 503 and `Connection: close` instead of a reset.
LINGER_S = 0.25
# What clients get at least to receive the end of their answers once the drain is over.
CUT_S = 1.0
PARENT_POLL_S = 1.0
# For the last log lines to reach stdout; a reader that is stuck must not keep the process.
FLUSH_S = 1.0
# Of a request's head, beyond the first piece that was read; nobody has been authenticated by then.
MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker is started with."""

    output: Output
    insecure: bool = False
    parent_pid: int | None = None
    on_started: Callable[[], None] | None = None


def run_worker(config: Config, sockets: Sequence[socket.socket], options: WorkerOptions) -> None:
    """Serve until SIGTERM or SIGINT, drain, return."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, sockets, options))
    options.output.flush(FLUSH_S)


async def serve(config: Config, sockets: Sequence[socket.socket], options: WorkerOptions) -> None:
    """Build the runtime, serve, drain, close."""
    loop = asyncio.get_running_loop()
    access_log = AccessLog(loop, options.output)
    process = process_of(config)
    assemble = partial(build, process=process, insecure=options.insecure, access_log=access_log)
    gateway = Gateway(assemble(config))
    reloader = Reloader(gateway, build=assemble, prepare=process.prepare, clock=process.clock)
    server = make_server(gateway.app)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, process.reload_soon, "SIGHUP")
    await process.start(gateway, reloader)
    gateway.runtime.start()
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    orphan = asyncio.create_task(watch_parent(options.parent_pid, stop))
    left_s = CUT_S
    try:
        await started(server, serving)
        settle_garbage_collector()
        gateway.health.started = True
        if options.on_started is not None:
            options.on_started()
        await stop.wait()
        left_s = await drain(gateway, server, config.settings.drain_timeout_seconds)
    finally:
        orphan.cancel()
        server.should_exit = True
        await ended(server, serving, left_s)
        await process.halt()  # no reload may put another runtime in place now
        await gateway.closed()
        await gateway.runtime.close()
        await process.close()
        access_log.close()


def process_of(config: Config) -> Process:
    """What this worker keeps, on the stores that the settings name."""
    clock = SystemClock()
    state = open_state(
        database_url=config.settings.database_url,
        redis_url=config.settings.redis_url,
        section=config.routeiq.state,
        clock=clock,
    )
    return Process(config, state=state, clock=clock, worker=worker_name())


def settle_garbage_collector() -> None:
    """Leave what was built out of every later collection, and collect young objects less often.

    A request makes few cycles and thousands of objects: the defaults cost 3 % of the CPU (py-spy).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


async def started(server: Server, serving: asyncio.Task[None]) -> None:
    """Wait until the server listens; if it cannot, raise what it raised."""
    while not server.started:
        if serving.done():
            await serving
            raise RuntimeError("the HTTP server ended while starting")
        await asyncio.sleep(0.005)


async def drain(gateway: Gateway, server: Server, timeout_s: float) -> float:
    """Refuse new requests, let those under way end; after `timeout_s` they are cut, and counted in the log.

    Returns the seconds that are left for bytes on their way to clients that read slowly.
    """
    deadline = gateway.runtime.clock.monotonic() + timeout_s
    admission = gateway.runtime.admission
    admission.drain()
    server.last_requests()
    logger.info("draining", extra={"in_flight": admission.in_flight})
    try:
        async with asyncio.timeout(timeout_s):
            await admission.drained()
    except TimeoutError:
        logger.warning("drain timed out", extra={"cut": admission.in_flight})
        for task in tuple(server.server_state.tasks):  # the pipeline tells their clients
            task.cancel()
        return CUT_S
    await asyncio.sleep(LINGER_S)
    logger.info("drained")
    return max(CUT_S, deadline - gateway.runtime.clock.monotonic())


async def ended(server: Server, serving: asyncio.Task[None], left_s: float) -> None:
    """Wait for the server; connections that still have something to deliver after `left_s` are cut."""
    await asyncio.wait({serving}, timeout=left_s)
    if not serving.done():
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()
    await serving


async def watch_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    """Drain when the supervisor is gone: nobody would stop or restart this worker any more."""
    while parent_pid is not None:
        await asyncio.sleep(PARENT_POLL_S)
        if os.getppid() != parent_pid:
            logger.error("the supervisor is gone; draining")
            stop.set()
            return
