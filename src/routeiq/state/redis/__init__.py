"""The shared stores on Redis, for many workers on many hosts.

`connect` is the only door that may be used where the driver is not installed; the stores' modules import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from routeiq.state.link import Link

from .url import parse, problem

if TYPE_CHECKING:
    from .connection import RedisConnection
    from .nodes import Nodes

CLIENT_NAME = "routeiq"


def connect(
    url: str,
    *,
    link: Link,
    timeout_s: float = 0.25,
    connect_timeout_s: float = 1.0,
    pool_size: int = 16,
) -> RedisConnection:
    """The connection that `url` describes; nothing is sent yet.

    Raises:
        ConfigError: the URL cannot be used, or the driver is not installed.
    """
    try:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        from .connection import RedisConnection
        from .nodes import Cluster, Single, Watched
    except ImportError as error:
        raise problem(
            f"It is set, but the Redis driver is not installed ({error.name}).",
            "Run: pip install 'routeiq-router[redis]'.",
        ) from error
    target = parse(url)
    arguments: dict[str, Any] = {
        "username": target.username,
        "password": target.password,
        "client_name": CLIENT_NAME,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 0,
        # Its own retries make a time-out of 0.25 s last seconds; `Link` knows better.
        "retry": Retry(NoBackoff(), 0),
        # Version 3 would negotiate maintenance notifications, which nothing here uses.
        "protocol": 2,
        **dict(target.options),
    }
    kinds: dict[str, Callable[..., Nodes]] = {
        "single": Single,
        "sentinel": Watched,
        "cluster": Cluster,
    }
    nodes = kinds[target.mode](target, arguments, pool_size)
    return RedisConnection(
        target,
        nodes,
        link=link,
        client_name=CLIENT_NAME,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        pool_size=pool_size,
    )
