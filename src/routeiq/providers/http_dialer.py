"""How connections are opened: names, address rules, TCP, TLS, proxies, Unix sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote_to_bytes, urlsplit

from routeiq.exceptions import ConnectFailed
from routeiq.ports import Clock, Timeouts

from .egress import AddressRules, Url, split_url
from .http_connection import FAILED, Connection

Resolve = Callable[[str], Awaitable[Sequence[str]]]

_NAME_TTL_S = 30.0
_NAMES_KEPT = 1024
_UNBOUNDED = Timeouts(
    connect_s=None, first_byte_s=None, idle_s=None
)  # the caller bounds connecting


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy and the names that go past it: `name` with all below it, or `*`."""

    url: Url
    authorization: bytes
    exceptions: tuple[str, ...]

    def serves(self, host: str) -> bool:
        """Whether requests to `host` go through the proxy."""
        return not any(
            name == "*" or host == name or host.endswith("." + name) for name in self.exceptions
        )


def parse_proxy(url: str, no_proxy: tuple[str, ...]) -> Proxy:
    """Read `http://[user:password@]host[:port]`.

    Raises:
        ValueError: it is something else; the message does not repeat it.
    """
    user, _, netloc = urlsplit(url).netloc.rpartition("@")
    target = split_url(f"{urlsplit(url).scheme}://{netloc}")
    if target.scheme != "http":
        raise ValueError("proxy URL must begin with http://")
    token = b64encode(unquote_to_bytes(user))
    return Proxy(
        url=target,
        authorization=b"\r\nproxy-authorization: Basic " + token if user else b"",
        exceptions=tuple(name.lower().lstrip("*.") or "*" for name in no_proxy if name),
    )


async def resolve_name(host: str) -> list[str]:
    """The system's answer for `host`, in the order it prefers (RFC 6724)."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def keep_alive(connected: socket.socket | None) -> None:
    """Probe a silent peer each minute: models think for longer than NAT and load balancers remember."""
    if connected is None:
        return
    with suppress(OSError):  # it is gone again, which its first use will tell
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, option):  # not on every system
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), 60)


class Dialer:
    """Opens connections. Names are resolved once per 30 s; failures are not remembered.

    With `rules`, every address of a name must pass, and only such an address is connected to. Through a
    proxy the same holds: it is asked for a tunnel to the checked address, never for the name.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        tls: ssl.SSLContext,
        rules: AddressRules | None,
        resolve: Resolve,
        proxy: Proxy | None,
    ) -> None:
        self._clock = clock
        self._tls = tls
        self._rules = rules
        self._resolve = resolve
        self._proxy = proxy
        self._names: dict[str, tuple[float, asyncio.Future[Sequence[str]]]] = {}

    def forwards(self, url: Url) -> Proxy | None:
        """The proxy that is asked in absolute form for `url`: only where nothing must be pinned."""
        plain = url.scheme == "http" and self._rules is None
        return self._proxy if plain and self._proxy and self._proxy.serves(url.host) else None

    async def connect(self, url: Url, deadline: float | None) -> Connection:
        """A connection that is ready for a request to `url`; `deadline` in loop time.

        Raises:
            ConnectFailed: it could not be made.
            EgressDenied: an address of the host is not allowed.
        """
        if url.scheme == "http+unix":
            loop = asyncio.get_running_loop()
            make = partial(Connection, loop, url.host)
            try:
                return (await loop.create_unix_connection(make, url.host))[1]
            except OSError as error:
                raise ConnectFailed(f"no connection to {url.host!r}: {error}") from error
        tls = self._tls if url.scheme == "https" else None
        proxy = self._proxy if self._proxy and self._proxy.serves(url.host) else None
        if proxy is None:
            return await self._dial(await self._allowed(url), url.host, url.port, tls, deadline)
        target = url.host if self._rules is None else (await self._allowed(url))[0]
        hop = proxy.url
        addresses = await self._addresses(hop)
        connection = await self._dial(addresses, hop.host, hop.port, None, deadline)
        if self.forwards(url) is None:
            await self._tunnel(connection, proxy, target, url, tls)
        return connection

    async def _dial(
        self,
        addresses: Sequence[str],
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        deadline: float | None,
    ) -> Connection:
        """Try `addresses` in order, each with an equal share of the time that is left."""
        loop = asyncio.get_running_loop()
        failures = []
        for tried, address in enumerate(addresses):
            left = len(addresses) - tried
            # The last one is bounded by the caller, who reports it as a timeout.
            share = None
            if deadline is not None and left > 1:
                share = loop.time() + (deadline - loop.time()) / left
            try:
                async with asyncio.timeout_at(share):
                    transport, connection = await loop.create_connection(
                        partial(Connection, loop, f"{host}:{port}"),
                        address,
                        port,
                        ssl=tls,
                        server_hostname=host if tls else None,
                    )
                keep_alive(transport.get_extra_info("socket"))
                return connection
            except OSError as error:
                failures.append(f"{address}: {str(error) or 'timeout'}")
        raise ConnectFailed(f"no connection to {host}:{port}: {'; '.join(failures)}")

    async def _tunnel(
        self,
        connection: Connection,
        proxy: Proxy,
        target: str,
        url: Url,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Turn a connection to `proxy` into one to `target` (RFC 9110, 9.3.6)."""
        place = f"[{target}]:{url.port}" if ":" in target else f"{target}:{url.port}"
        head = f"CONNECT {place} HTTP/1.1\r\nhost: {place}".encode() + proxy.authorization
        loop = asyncio.get_running_loop()
        try:
            await connection.exchange(head + b"\r\n\r\n", _UNBOUNDED, 0.0, no_body=True)
            if connection.state == FAILED or connection.status // 100 != 2:
                answer = connection.status or connection.error
                raise ConnectFailed(f"proxy {proxy.url.authority} opened no tunnel: {answer}")
            if tls is not None:
                transport = await loop.start_tls(
                    connection.transport, connection, tls, server_hostname=url.host
                )
                if transport is None:
                    raise ConnectFailed(f"no connection to {place}: closed during TLS")
                connection.connection_made(transport)
        except OSError as error:
            connection.abort()
            raise ConnectFailed(f"no connection to {place} through the proxy: {error}") from error
        except BaseException:
            connection.abort()
            raise

    async def _allowed(self, url: Url) -> Sequence[str]:
        """The addresses of the URL's host, all of them checked."""
        addresses = await self._addresses(url)
        if self._rules is not None:
            for address in addresses:
                self._rules.check_address(url.host, address)
        return addresses

    async def _addresses(self, url: Url) -> Sequence[str]:
        """One lookup at a time per name; whoever is cancelled leaves it running for the others."""
        host = url.host
        if url.is_literal:
            return [host]
        now = self._clock.monotonic()
        expires, lookup = self._names.get(host, (now, None))
        if lookup is None or expires <= now:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            lookup = asyncio.ensure_future(self._resolve(host))
            lookup.add_done_callback(partial(self._forget_failure, host))
            self._names[host] = (now + _NAME_TTL_S, lookup)
        try:
            addresses = await asyncio.shield(lookup)
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"cannot resolve {host!r}: {error}") from error
        if not addresses:
            raise ConnectFailed(f"cannot resolve {host!r}: it has no address")
        return addresses

    def _forget_failure(self, host: str, lookup: asyncio.Future[Sequence[str]]) -> None:
        if lookup.cancelled() or lookup.exception() or not lookup.result():
            self._names.pop(host, None)
