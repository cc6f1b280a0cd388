"""Which server has a key: the only one, the master that the sentinels name, or a node of a cluster.

redis-py knows the topologies: it asks sentinels, keeps a cluster's map of slots and follows redirections.
"""

from __future__ import annotations

from typing import Any, Protocol

from .url import Address, Target


class Nodes(Protocol):
    """`place` names a server; it is cheap, because every command asks."""

    client: Any
    """redis-py's client for commands that are not on the request path."""

    def place(self, key: str) -> str | None:
        """The server that has this key; `None` before `ready`."""
        ...

    def places(self) -> list[str]:
        """Every server that takes writes."""
        ...

    async def ready(self) -> None:
        """Learn what there is to know."""
        ...

    async def address(self, place: str) -> Address:
        """Where to connect to now."""
        ...

    async def forget(self) -> None:
        """A server failed: what was learnt may be out of date."""
        ...

    async def close(self) -> None:
        """Close redis-py's connections."""
        ...


class Single:
    """One server at one address."""

    def __init__(self, target: Target, arguments: dict[str, Any], pool_size: int) -> None:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.connection import Connection, SSLConnection

        host, port = self._address = target.hosts[0]
        self._pool = BlockingConnectionPool(
            max_connections=pool_size,
            timeout=arguments["socket_timeout"],
            connection_class=SSLConnection if target.tls else Connection,
            host=host,
            port=port,
            db=target.db,
            **arguments,
        )
        self.client: Any = Redis(connection_pool=self._pool)

    def place(self, key: str) -> str | None:
        """All keys are in one place."""
        return ""

    def places(self) -> list[str]:
        """The one."""
        return [""]

    async def ready(self) -> None:
        """Nothing to learn."""

    async def address(self, place: str) -> Address:
        """As the URL says."""
        return self._address

    async def forget(self) -> None:
        """Nothing was learnt."""

    async def close(self) -> None:
        """Close the pool."""
        await self.client.aclose()
        await self._pool.aclose()


class Watched(Single):
    """One master, which the sentinels may replace."""

    def __init__(self, target: Target, arguments: dict[str, Any], pool_size: int) -> None:
        from redis.asyncio import Sentinel

        own = dict(arguments)
        for name in ("username", "password"):
            own.pop(name, None)
        own["password"] = target.sentinel_password
        secure: dict[str, Any] = {"ssl": True} if target.tls else {}
        self._master = target.master
        self._sentinel: Any = Sentinel(target.hosts, sentinel_kwargs=own | secure)  # type: ignore[no-untyped-call]
        self.client = self._sentinel.master_for(
            target.master, max_connections=pool_size, db=target.db, **arguments, **secure
        )

    async def address(self, place: str) -> Address:
        """Ask the sentinels."""
        host, port = await self._sentinel.discover_master(self._master)
        return str(host), int(port)

    async def close(self) -> None:
        """Close the connections to the master and to the sentinels."""
        await self.client.aclose()
        await self.client.connection_pool.aclose()
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class Cluster:
    """Several masters, each with a share of the slots."""

    def __init__(self, target: Target, arguments: dict[str, Any], pool_size: int) -> None:
        from redis.asyncio.cluster import ClusterNode, RedisCluster

        self.client: Any = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in target.hosts],
            max_connections=pool_size,
            ssl=target.tls is not None,
            **arguments,
        )
        self._known = False

    def place(self, key: str) -> str | None:
        """By the map of slots, as far as it is known."""
        return str(self.client.get_node_from_key(key).name) if self._known else None

    def places(self) -> list[str]:
        """The masters."""
        return [str(node.name) for node in self.client.get_primaries()]

    async def ready(self) -> None:
        """Read the map of slots."""
        if not self._known:
            await self.client.initialize()
            self._known = True

    async def address(self, place: str) -> Address:
        """As the map says."""
        host, _, port = place.rpartition(":")
        return host, int(port)

    async def forget(self) -> None:
        """Read the map again before the next use."""
        self._known = False
        await self.client.aclose()

    async def close(self) -> None:
        """Close the connections to all nodes."""
        await self.client.aclose()
