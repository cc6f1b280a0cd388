"""HTTP clients for the native lane, compared: `python -m bench.http_clients [--quick]`.

The same bare pass-through under uvicorn (parse the body, replace the model, forward, read the usage) once with
each client, each in a process and on a processor of its own, against the simulator. `floor` is the least that
speaks HTTP on httptools: no limits, no timeouts, hardly a pool. docs/adr/0004-http-client.md has the outcome.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import click
import orjson

from . import kernel
from .gateways import PLAIN, SPREAD, STREAM, Scenario, Site, Target, bearer, direct, start_simulator
from .launch import ROOT, Lab, free_port, wait_answer
from .load import Generator

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
_UPSTREAM = os.environ.get("BARE_UPSTREAM", "http://127.0.0.1:1/v1") + "/chat/completions"
_CONNECTIONS = 32


class Client(Protocol):
    """Status, content type and body, as it arrives, of one call."""

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        """Send the request; the head has arrived."""
        ...


class Native:
    """Ours, with the limits that it has by default."""

    def __init__(self) -> None:
        from routeiq.ports import Timeouts
        from routeiq.providers.http_client import NativeHttpClient

        self._client = NativeHttpClient()
        self._timeouts = Timeouts()
        self._headers = [
            (b"authorization", b"Bearer sk-upstream"),
            (b"content-type", b"application/json"),
        ]

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        response = await self._client.send("POST", _UPSTREAM, self._headers, body, self._timeouts)
        kind = next((value for name, value in response.headers if name == b"content-type"), b"")
        return response.status, kind, response.chunks()


class Floor:
    """The least: `bench.bare`'s connection."""

    def __init__(self) -> None:
        from .bare import Bare, Upstream

        self._idle: list[Upstream] = []
        self._connect = Bare()._connect

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        upstream = self._idle.pop() if self._idle else await self._connect()
        kind = await upstream.send(body)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in upstream.pieces():
                yield piece
            self._idle.append(upstream)

        return upstream.status, kind, pieces()


_HEADERS = {"authorization": "Bearer sk-upstream", "content-type": "application/json"}


class Aiohttp:
    def __init__(self) -> None:
        self._session: Any = None

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        aiohttp: Any = import_module("aiohttp")
        if self._session is None:  # it wants a running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1000),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            )
        response = await self._session.post(_UPSTREAM, data=body, headers=_HEADERS)
        return response.status, response.content_type.encode(), response.content.iter_any()


class Pyreqwest:
    def __init__(self) -> None:
        pyreqwest: Any = import_module("pyreqwest.client")
        self._client = pyreqwest.ClientBuilder().max_connections(1000).build()

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        request = self._client.post(_UPSTREAM).headers(_HEADERS).body_bytes(body)
        if b'"stream":true' not in body:
            response = await request.build().send()
            whole = bytes(await response.bytes())

            async def one() -> AsyncIterator[bytes]:
                yield whole

            return response.status, response.headers["content-type"].encode(), one()
        context = request.build_streamed()
        streamed = await context.__aenter__()

        async def pieces() -> AsyncIterator[bytes]:
            while (piece := await streamed.body_reader.read_chunk()) is not None:
                yield bytes(piece)
            await context.__aexit__(None, None, None)

        return streamed.status, streamed.headers["content-type"].encode(), pieces()


class Httpx:
    def __init__(self) -> None:
        httpx: Any = import_module("httpx")
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
        self._client = httpx.AsyncClient(limits=limits)

    async def call(self, body: bytes) -> tuple[int, bytes, AsyncIterator[bytes]]:
        request = self._client.build_request("POST", _UPSTREAM, content=body, headers=_HEADERS)
        response = await self._client.send(request, stream=True)
        kind = response.headers["content-type"].encode()
        return response.status_code, kind, response.aiter_raw()


CLIENTS: dict[str, Callable[[], Client]] = {
    "native": Native,
    "floor": Floor,
    "aiohttp": Aiohttp,
    "pyreqwest": Pyreqwest,
    "httpx": Httpx,
}


class PassThrough:
    """The ASGI application, with the client that `BENCH_CLIENT` names."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self.tokens = 0

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send
    ) -> None:
        if scope["type"] != "http":
            return
        if self._client is None:
            self._client = CLIENTS[os.environ["BENCH_CLIENT"]]()
        message = await receive()
        raw = message["body"]
        while message.get("more_body"):
            message = await receive()
            raw += message["body"]
        body = orjson.loads(raw)
        body["model"] = str(body["model"])
        status, kind, pieces = await self._client.call(orjson.dumps(body))
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        whole = b""
        async for piece in pieces:
            if kind.startswith(b"text/event-stream"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                whole += piece
        if whole:
            self.tokens += orjson.loads(whole)["usage"]["total_tokens"]
        await send({"type": "http.response.body", "body": whole})


app = PassThrough()


def start(site: Site, client: str) -> Target:
    """A pass-through with this client."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.http_clients:app", "--app-dir", str(ROOT)]
    argv += ["--port", str(port), "--no-access-log", "--log-level", "error"]
    env = {"BARE_UPSTREAM": site.upstream, "BENCH_CLIENT": client}
    process = site.lab.start(client, argv, env=env, cpus=site.gateway_cpus)
    target = Target(
        name=client,
        title=client,
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.upstream,
        headers=bearer("sk-bench"),
        process=process,
    )
    wait_answer(process, target.request(PLAIN))
    return target


def cpu_ms(generator: Generator, target: Target, scenario: Scenario, seconds: float) -> float:
    """CPU milliseconds per request, user and system."""
    assert target.process is not None
    generator.closed(target, scenario, connections=_CONNECTIONS, seconds=0.5)
    before = kernel.cpu_s(target.process.pid)
    load = generator.closed(target, scenario, connections=_CONNECTIONS, seconds=seconds)
    time.sleep(0.1)
    return (kernel.cpu_s(target.process.pid) - before) / load.requests * 1e3


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.5))
@click.option("--quick", is_flag=True, help="One short round.")
def main(rounds: int, seconds: float, quick: bool) -> None:
    """CPU per request with each client: median over the rounds, and the range."""
    if quick:
        rounds, seconds = 1, 1.0
    gateway_cpus, simulator_cpus, load_cpus = kernel.places()
    names = [name for name in CLIENTS if name in ("native", "floor") or installed(name)]
    found: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab:
        simulator, base = start_simulator(lab, simulator_cpus)
        site = Site(lab=lab, gateway_cpus=gateway_cpus, upstream=base, others=ROOT)
        generator = Generator(lab.path, load_cpus)
        wait_answer(simulator, direct(site).request(PLAIN))
        targets = [start(site, name) for name in names]
        for _ in range(rounds):  # rounds outside: a noisy minute hits all clients alike
            for scenario in (PLAIN, STREAM, SPREAD):
                for target in targets:
                    assert target.process is not None
                    with lab.only(simulator, target.process):
                        spent = cpu_ms(generator, target, scenario, seconds)
                    found.setdefault((target.name, scenario.name), []).append(spent)
    click.echo(
        f"CPU ms per request, {_CONNECTIONS} connections, {rounds} rounds: {kernel.machine()}"
    )
    click.echo("| client | " + " | ".join(one.title for one in (PLAIN, STREAM, SPREAD)) + " |")
    click.echo("|---|---:|---:|---:|")
    for name in names:
        cells = [cell(found[name, one.name]) for one in (PLAIN, STREAM, SPREAD)]
        click.echo(f"| {name} | {' | '.join(cells)} |")


def installed(name: str) -> bool:
    """Whether the package is there; says so if not."""
    there = find_spec(name) is not None
    if not there:
        click.echo(f"{name} is not installed: left out (uv sync --group bench)", err=True)
    return there


def cell(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
