"""The native lane's HTTP/1.1 client: what `ports.HttpClient` promises, on asyncio and httptools.

Why our own: docs/adr/0004-http-client.md. It follows no redirects, decodes no content and reads no
environment. What can be known before a request is computed once per URL and per header name.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from routeiq.exceptions import UpstreamTimeout
from routeiq.ports import Clock, Header, SystemClock, Timeouts

from .egress import AddressRules, split_url
from .http_connection import FAILED, Connection, Response
from .http_dialer import Dialer, Resolve, parse_proxy, resolve_name
from .http_pool import Pool

_CACHED = 1024
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """What a method and a URL come to."""

    loop: asyncio.AbstractEventLoop
    origin: str
    prefix: bytes
    pool: Pool
    no_body: bool


class NativeHttpClient:
    """Pooled HTTP/1.1 to many origins; use it from one event loop.

    At most `max_connections` per origin; idle ones are closed after `keepalive_s`. `rules` are applied to
    every URL and address (None: to none). `ca_file` is trusted beside the system's authorities; `ssl_context`
    replaces both. `proxy_url` is `http://[user:password@]host[:port]`, `no_proxy` names that go past it.
    Besides http and https, `http+unix://%2Fpath%2Fto%2Fsocket/path` is understood.
    """

    def __init__(
        self,
        *,
        max_connections: int = 1000,
        keepalive_s: float = 30.0,
        rules: AddressRules | None = None,
        resolve: Resolve = resolve_name,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: str | None = None,
        proxy_url: str | None = None,
        no_proxy: tuple[str, ...] = (),
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s
        self._rules = rules
        self._dialer = Dialer(
            clock=self._clock,
            tls=ssl_context or tls_context(ca_file),
            rules=rules,
            resolve=resolve,
            proxy=parse_proxy(proxy_url, no_proxy) if proxy_url else None,
        )
        self._routes: dict[tuple[str, str], _Route] = {}
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._lines: dict[Header, bytes] = {}
        self._closed = False

    async def send(
        self,
        method: str,
        url: str,
        headers: Sequence[Header],
        body: bytes,
        timeouts: Timeouts,
    ) -> Response:
        """Write a request, wait for the head of its response. See `ports.HttpClient`.

        `first_byte_s` runs from the request being handed to the socket. A request that was written to a
        kept connection which the server closed without a byte of answer is written once more, to a new one.

        Raises:
            ValueError: URL or headers would not be one HTTP request.
        """
        route = self._routes.get((method, url)) or self._add_route(method, url)
        lines = self._lines
        block = b"".join([lines.get(header) or self._add_line(header) for header in headers])
        end = b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        request = b"".join((route.prefix, block, end, body))
        begun = route.loop.time()
        for fresh in (False, True):
            connection = (None if fresh else route.pool.take()) or await self._acquire(
                route, timeouts, begun, fresh
            )
            try:
                await connection.exchange(request, timeouts, begun, no_body=route.no_body)
            except BaseException:
                connection.abort()
                raise
            if not connection.stale:
                break
        if connection.state == FAILED:
            raise connection.error
        return Response(connection)

    async def close(self) -> None:
        """Close every idle connection; those in use close when their response ends."""
        self._closed = True
        for pool in self._pools.values():
            pool.close()
        await asyncio.sleep(0)  # lets the transports tell their protocols

    async def _acquire(
        self, route: _Route, timeouts: Timeouts, begun: float, fresh: bool
    ) -> Connection:
        phase, limit = "connect", timeouts.connect_s
        now = route.loop.time()
        deadline = None if limit is None else now + limit
        total = timeouts.total_s
        if total is not None and (deadline is None or begun + total < deadline):
            phase, limit, deadline = "total", total, begun + total
        try:
            async with asyncio.timeout_at(deadline):
                return await route.pool.acquire(deadline, fresh=fresh)
        except TimeoutError:
            raise UpstreamTimeout(
                f"{route.origin}: {phase} timeout of {limit:g} s",
                phase=phase,
                sent=False,
            ) from None

    def _add_route(self, method: str, url: str) -> _Route:
        if self._rules is not None:
            self._rules.check_url(url)
        parts = split_url(url)
        if not _TOKEN.fullmatch(method.encode()):
            raise ValueError(f"method {method!r} is not an HTTP token")
        if len(self._routes) >= _CACHED:
            self._routes.clear()
            self._pools = {key: pool for key, pool in self._pools.items() if pool.slots}
        key = (parts.scheme, parts.host, parts.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(
                partial(self._dialer.connect, parts),
                limit=self._max_connections,
                keepalive_s=self._keepalive_s,
                clock=self._clock,
            )
        if self._closed:
            pool.close()
        proxy = self._dialer.forwards(parts)
        place = f"http://{parts.authority}{parts.target}" if proxy else parts.target
        prefix = f"{method} {place} HTTP/1.1\r\nhost: {parts.authority}".encode()
        route = self._routes[method, url] = _Route(
            loop=asyncio.get_running_loop(),
            prefix=prefix + (proxy.authorization if proxy else b""),
            pool=pool,
            origin=f"{parts.host}:{parts.port}",
            no_body=method == "HEAD",
        )
        return route

    def _add_line(self, header: Header) -> bytes:
        name, value = header
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header name {name!r} is not an HTTP token")
        if name.lower() in _OURS:
            raise ValueError(f"header {name!r} is written by the client: leave it out")
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise ValueError(f"header {name!r} has a line break or a NUL in its value: remove it")
        if len(self._lines) >= _CACHED:
            self._lines.clear()
        line = self._lines[header] = b"\r\n%b: %b" % header
        return line


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """The system's certificate authorities, and those in the PEM file `ca_file`.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
