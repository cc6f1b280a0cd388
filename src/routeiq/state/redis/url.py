"""What REDIS_URL says: one server, a master that sentinels know, or a cluster; with or without TLS."""

from __future__ import annotations

import ssl
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from routeiq.exceptions import ConfigError, Problem
from routeiq.values import value

Mode = Literal["single", "sentinel", "cluster"]
Address = tuple[str, int]
SCHEMES = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}
KNOWN = ("db", "username", "password", "sentinel_password")
TLS = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ciphers",
)
TLS_FIX = "They are ssl_ca_certs, ssl_certfile and ssl_keyfile (paths), ssl_cert_reqs, ssl_check_hostname."
KNOWN_FIX = "Take it out; time-outs and the pool's size are in the section routeiq.state."
FIX = "Give redis://, rediss://, redis+sentinel://h1:p,h2:p/master/db or redis+cluster://h1:p,h2:p."


@value
class Target:
    """Where to connect. `options` are redis-py's connection arguments and hold the password: never print them."""

    mode: Mode
    hosts: tuple[Address, ...]
    master: str
    db: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    options: tuple[tuple[str, Any], ...]
    sentinel_password: str | None

    def __repr__(self) -> str:
        """Without credentials."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"Target({self.mode} {hosts}, tls={self.tls is not None})"


def problem(message: str, fix: str = FIX) -> ConfigError:
    """An error about REDIS_URL; `message` must not hold any of it but its scheme and hosts."""
    return ConfigError([Problem(key="REDIS_URL", message=message, fix=fix)])


def parse(url: str) -> Target:
    """Read a URL.

    Raises:
        ConfigError: it cannot be used, or redis-py is not installed.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in SCHEMES:
        raise problem(f"{scheme[:40]!r} is not a scheme of Redis URLs.")
    mode, secure = SCHEMES[scheme]
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise problem("It names a host in brackets that is no IPv6 address.") from error
    credentials, _, netloc = parts.netloc.rpartition("@")
    hosts = tuple(_address(each, PORTS[mode]) for each in netloc.split(",") if each)
    if not hosts:
        raise problem("It names no host.")
    master, db = _path(mode, parts.path)
    options = _options("rediss" if secure else "redis", credentials, db, parts.query)
    sentinel_password = options.pop("sentinel_password", None)
    tls = _context(options) if secure else None
    return Target(
        mode=mode,  # type: ignore[arg-type]
        hosts=hosts,
        master=master,
        db=options.pop("db", 0),
        username=options.pop("username", None),
        password=options.pop("password", None),
        tls=tls,
        options=tuple(options.items()),
        sentinel_password=sentinel_password,
    )


def _address(text: str, default: int) -> Address:
    """`host`, `host:port` or `[v6]:port`."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname:
            return unquote(parts.hostname), parts.port or default
    except ValueError:
        pass
    raise problem(f"{text!r} is not host:port.")


def _path(mode: str, path: str) -> tuple[str, str]:
    """The master's name and the database's number, as they stand in the path."""
    names = [unquote(name) for name in path.split("/") if name]
    master = ""
    if mode == "sentinel":
        if not names:
            raise problem("It does not name the master that the sentinels watch.")
        master = names.pop(0)
    db = names.pop(0) if names else "0"
    if names or not db.isdigit():
        raise problem("Its path is not the number of a database.")
    if mode == "cluster" and db != "0":
        raise problem("A cluster has database 0 only.", "Leave the path out.")
    return master, db


def _options(scheme: str, credentials: str, db: str, query: str) -> dict[str, Any]:
    """Credentials and query parameters as redis-py reads them."""
    from redis.asyncio.connection import parse_url

    user = f"{credentials}@" if credentials else ""
    try:
        options: dict[str, Any] = dict(parse_url(f"{scheme}://{user}host/{db}?{query}"))
    except ValueError as error:
        raise problem(str(error)) from None
    for name in ("host", "connection_class"):
        options.pop(name, None)
    known = (*KNOWN, *TLS) if scheme == "rediss" else KNOWN
    unknown = [name for name in options if name not in known]
    if unknown:
        raise problem(f"{unknown[0]!r} is not a parameter that RouteIQ takes.", KNOWN_FIX)
    return options


def _context(options: dict[str, Any]) -> ssl.SSLContext:
    """One TLS context for all connections, made as redis-py makes its own."""
    from redis.asyncio.connection import SSLConnection
    from redis.exceptions import RedisError

    given = {name: options[name] for name in options if name.startswith("ssl_")}
    try:
        return SSLConnection(**given).ssl_context.get()
    except (TypeError, ValueError, OSError, RedisError) as error:
        raise problem(f"Its TLS parameters cannot be used: {error}", TLS_FIX) from None
