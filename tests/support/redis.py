"""Redis servers of a test's own: on a free port, to be stopped, killed, paused and started again."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

BINARY = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")


def free_port() -> int:
    """Below the ephemeral range, so that nobody's outgoing connection takes it, nor its cluster bus."""
    while True:
        port = random.randrange(12_000, 21_000)
        with socket.socket() as first, socket.socket() as bus, suppress(OSError):
            first.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def wait_for(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Until `what` returns something true; what redis-py raises counts as false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(redis.RedisError, OSError):
            if answer := what():
                return answer
        time.sleep(0.02)
    raise AssertionError(f"nothing after {seconds} s")


@dataclass(slots=True, kw_only=True)
class RedisServer:
    """One server. Its data are in `folder` and survive everything but `start(empty=True)`."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    tls: bool = False
    config: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    clients: list[redis.Redis] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A blocking client for the test's own looking."""
        if not self.clients:
            self.clients.append(redis.Redis(port=self.port, socket_timeout=5, protocol=2))
        return self.clients[0]

    def command(self, *words: str | int) -> Any:
        """What the server answers to any command."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def start(self, *, empty: bool = False, wait: bool = True) -> None:
        """Start it, with what it had."""
        assert BINARY is not None
        assert self.process is None
        if empty:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        port = ["--port", "0", "--tls-port"] if self.tls else ["--port"]
        self.process = subprocess.Popen(
            [
                BINARY,
                *([str(self.config)] if self.config else []),
                *port,
                str(self.port),
                *("--bind", "127.0.0.1", "--dir", str(self.folder)),
                *([] if self.config else ["--save", "", "--appendonly", "yes"]),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
        )
        if wait:
            wait_for(self.listening if self.tls else lambda: self.client.ping())

    def listening(self) -> bool:
        """Whether somebody accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """In order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """At once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever state it is in."""
        for client in self.clients:
            client.close()
        if self.process is not None:
            self.kill()

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)
        self.process = None


@contextmanager
def redis_server(*options: str, tls: bool = False, start: bool = True) -> Iterator[RedisServer]:
    """A server with the options of redis-server's command line."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        server = RedisServer(folder=data, port=free_port(), options=options, tls=tls)
        try:
            if start:
                server.start()
            yield server
        finally:
            server.close()


@dataclass(slots=True, kw_only=True)
class Watched:
    """A master and a replica under a sentinel."""

    servers: tuple[RedisServer, RedisServer]
    sentinel: RedisServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main/0"

    def master(self) -> RedisServer:
        """Who it is by the sentinel's word."""
        said = self.sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(server for server in self.servers if server.port == int(said[1]))


@contextmanager
def redis_sentinel() -> Iterator[Watched]:
    """Notices a dead master after half a second."""
    with ExitStack() as stack:
        first = stack.enter_context(redis_server("--repl-diskless-sync-delay", "0"))
        second = stack.enter_context(redis_server("--replicaof", "127.0.0.1", str(first.port)))
        wait_for(lambda: second.client.info("replication")["master_link_status"] == "up")
        sentinel = stack.enter_context(redis_server("--sentinel", start=False))
        sentinel.config = sentinel.folder / "sentinel.conf"
        sentinel.config.write_text(
            f"sentinel monitor main 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        sentinel.start()
        wait_for(lambda: sentinel.command("SENTINEL", "REPLICAS", "main"))
        yield Watched(servers=(first, second), sentinel=sentinel)


@dataclass(slots=True, kw_only=True)
class ClusterOf3:
    """Three masters."""

    servers: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.servers)

    def move(self, slot: int) -> None:
        """Give an (empty) slot to another server."""
        ids = [_text(server.command("CLUSTER", "MYID")) for server in self.servers]
        owner = slot * 3 // 16384
        for server in self.servers:
            server.command("CLUSTER", "SETSLOT", slot, "NODE", ids[(owner + 1) % 3])


@contextmanager
def redis_cluster() -> Iterator[ClusterOf3]:
    """Made by commands, because redis-cli is not everywhere."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        servers = tuple(stack.enter_context(redis_server(*options)) for _ in range(3))
        for number, server in enumerate(servers):
            first, last = -(-number * 16384 // 3), -(-(number + 1) * 16384 // 3) - 1
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            server.command("CLUSTER", "ADDSLOTSRANGE", first, last)
            server.command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        for server in servers:
            wait_for(lambda server=server: _ready(server))  # type: ignore[misc]
        yield ClusterOf3(servers=servers)


def _ready(server: RedisServer) -> bool:
    said = _text(server.command("CLUSTER", "INFO"))
    return "cluster_state:ok" in said and "cluster_known_nodes:3" in said


def _text(said: Any) -> str:
    if isinstance(said, dict):
        return "\n".join(f"{_text(key)}:{_text(value)}" for key, value in said.items())
    return said.decode() if isinstance(said, bytes) else str(said)
