"""One worker process: uvicorn on given sockets, a runtime, and a drain that cuts nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from routeiq.config.model import Config
from routeiq.gateway.app import Gateway
from routeiq.gateway.runtime import build
from routeiq.telemetry.access_log import AccessLog

logger = logging.getLogger("routeiq.worker")

# After the last request has left, the listener stays open this long: clients with keep-alive connections get
# a clean 503 and `Connection: close` instead of a reset.
LINGER_S = 0.25
# Longer than the idle limit of usual load balancers (60 s), so that they close first, not we under a request.
KEEPALIVE_S = 75
PARENT_POLL_S = 1.0


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with our answer to bytes that are not HTTP."""

    def send_400_response(self, msg: str) -> None:
        """Answer in OpenAI's shape, like every other error."""
        body = orjson.dumps(
            {
                "error": {
                    "message": msg,
                    "type": "invalid_request_error",
                    "code": "invalid_http",
                    "param": None,
                }
            }
        )
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"x-request-id: req_%b\r\ncontent-length: %d\r\n\r\n"
            % (os.urandom(12).hex().encode(), len(body))
        )
        self.transport.write(head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server; signals are the worker's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker is started with."""

    insecure: bool = False
    parent_pid: int | None = None
    on_started: Callable[[], None] | None = None


def run_worker(config: Config, sockets: Sequence[socket.socket], options: WorkerOptions) -> None:
    """Serve until SIGTERM or SIGINT, drain, return."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, sockets, options))


async def serve(config: Config, sockets: Sequence[socket.socket], options: WorkerOptions) -> None:
    """Build the runtime, serve, drain, close."""
    loop = asyncio.get_running_loop()
    access_log = AccessLog(loop)
    runtime = build(config, insecure=options.insecure, access_log=access_log)
    gateway = Gateway(runtime)
    server = Server(
        uvicorn.Config(
            gateway.app,
            http=GatewayProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEPALIVE_S,
        )
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    orphan = asyncio.create_task(watch_parent(options.parent_pid, stop))
    try:
        await started(server, serving)
        gateway.health.started = True
        if options.on_started is not None:
            options.on_started()
        await stop.wait()
        await drain(gateway, config.settings.drain_timeout_seconds)
    finally:
        orphan.cancel()
        server.should_exit = True
        await serving
        await runtime.close()
        access_log.close()


async def started(server: Server, serving: asyncio.Task[None]) -> None:
    """Wait until the server listens; if it cannot, raise what it raised."""
    while not server.started:
        if serving.done():
            await serving
            raise RuntimeError("the HTTP server ended while starting")
        await asyncio.sleep(0.005)


async def drain(gateway: Gateway, timeout_s: float) -> None:
    """Refuse new requests, let those under way end; after `timeout_s` they are cut, and counted in the log."""
    admission = gateway.runtime.admission
    admission.drain()
    logger.info("draining", extra={"in_flight": admission.in_flight})
    try:
        async with asyncio.timeout(timeout_s):
            await admission.drained()
    except TimeoutError:
        logger.warning("drain timed out", extra={"cut": admission.in_flight})
        return
    await asyncio.sleep(LINGER_S)
    logger.info("drained")


async def watch_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    """Drain when the supervisor is gone: nobody would stop or restart this worker any more."""
    while parent_pid is not None:
        await asyncio.sleep(PARENT_POLL_S)
        if os.getppid() != parent_pid:
            logger.error("the supervisor is gone; draining")
            stop.set()
            return
