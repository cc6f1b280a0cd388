"""The connection to Redis of one worker: every store here uses it, `Link` decides whether it is worth asking.

Two ways lead to the server. `hot` and `script` share one pipelined connection per server (`Wire`) and cost a
tenth of redis-py's CPU; `run` takes a connection from redis-py's pool, so that a large answer delays no request.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any

import hiredis
from redis import exceptions

from routeiq.exceptions import StoreUnavailable
from routeiq.state.link import Link

from .keys import CHANNEL, PING
from .nodes import Nodes
from .url import Target
from .wire import Command, Wire

logger = logging.getLogger("routeiq.state")
ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN"})
"""The cluster is being rearranged: the command was not carried out here, redis-py follows it."""
DOWN = frozenset({"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "WRONGPASS"})
"""Nothing will work on this connection until something changes."""
LOST = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.MasterDownError)
"""The same as redis-py names it, where it does not call it a lost connection."""
FAILURES = (OSError, exceptions.RedisError, hiredis.HiredisError)
"""What goes wrong outside; anything else is a mistake of ours and is raised as it is."""


class Script:
    """A Lua script, sent by its hash; the server learns it the first time."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """One of `scripts/*.lua`."""
    return Script((resources.files(__package__) / "scripts" / f"{name}.lua").read_text("utf-8"))


class RedisConnection:
    """Made by `routeiq.state.redis.connect`; belongs to one event loop. Connects when it is first used."""

    def __init__(
        self,
        target: Target,
        nodes: Nodes,
        *,
        link: Link,
        client_name: str,
        timeout_s: float,
        connect_timeout_s: float,
        pool_size: int,
    ) -> None:
        self.link = link
        self.target = target
        self._nodes = nodes
        self._client_name = client_name
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        # redis-py's pools for sentinels and clusters do not wait for a connection, they fail.
        self._pool_places = asyncio.Semaphore(pool_size)
        self._wires: dict[str, Wire] = {}
        self._dials: dict[str, asyncio.Task[Wire]] = {}
        self._complained: set[str] = set()

    # Commands.

    async def hot(self, key: str, *command: str | bytes | int | float) -> Any:
        """One command about `key`, pipelined with those of other tasks; the reply as hiredis gives it.

        Raises:
            StoreUnavailable: no answer (it may have been carried out), or an error for an answer.
        """
        reply = await self._exchange(key, command)
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(reply)
        return reply

    async def script(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int | float]
    ) -> Any:
        """Run a script; all `keys` are in one slot. Errors as for `hot`."""
        rest = (len(keys), *keys, *args)
        reply = await self._exchange(keys[0], ("EVALSHA", script.sha, *rest))
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = await self._exchange(keys[0], ("EVAL", script.source, *rest))
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(reply)
        return reply

    async def many(self, commands: Sequence[tuple[str, Command]]) -> list[Any]:
        """Several commands, each with its key, in one go and without a task for each. Errors as for `hot`."""
        self.link.check()
        try:
            lanes = [await self._lane(key) for key, _ in commands]
            sent = [lane.send(command) for lane, (_, command) in zip(lanes, commands, strict=True)]
            replies = await asyncio.gather(*sent)
        except FAILURES as error:
            raise await self._failed(error) from error
        for index, reply in enumerate(replies):
            if isinstance(reply, hiredis.ReplyError):
                replies[index] = await self._objection(commands[index][1], reply)
                if isinstance(replies[index], hiredis.ReplyError):
                    raise self._refused(reply)
        self.link.worked()
        return replies

    async def run(self, *command: str | bytes | int | float) -> Any:
        """One command over redis-py, which follows a cluster's redirections. Errors as for `hot`."""
        self.link.check()
        try:
            async with (
                asyncio.timeout(self._timeout_s + self._connect_timeout_s),
                self._pool_places,
            ):
                reply = await self._nodes.client.execute_command(*command)
        except FAILURES as error:
            raise await self._failed(error) from error
        self.link.worked()
        return reply

    async def ping(self) -> None:
        """Whether every server takes writes, over the connections that requests use. For `Link.run`.

        Raises:
            StoreUnavailable: one does not.
        """
        try:
            async with asyncio.timeout(2 * self._connect_timeout_s):
                await self._nodes.ready()
                for place in self._nodes.places():
                    wire = await self._wire(place)
                    _healthy(await wire.send(("PING",)))
                wire = await self._wire(self._nodes.place(PING) or "")
                _healthy(await wire.send(("SET", PING, "1", "EX", 60)))
        except FAILURES as error:
            await self._forget()
            raise StoreUnavailable(f"redis does not answer: {_said(error)}") from error

    async def subscriber(self, on_push: Callable[[bytes], None]) -> Wire:
        """A connection of its own, for `Events`, to the server that is published on; the caller aborts it."""
        async with asyncio.timeout(self._connect_timeout_s):
            await self._nodes.ready()
            return await self._connect(
                self._nodes.place(CHANNEL) or "", self._connect_timeout_s, on_push=on_push
            )

    async def close(self) -> None:
        """Cut the connections."""
        for dial in self._dials.values():
            dial.cancel()
        await asyncio.gather(*self._dials.values(), return_exceptions=True)
        for wire in self._wires.values():
            wire.abort("closed")
        self._wires.clear()
        await self._nodes.close()

    # How they get there.

    async def _exchange(self, key: str, command: Command) -> Any:
        self.link.check()
        try:
            reply = await (await self._lane(key)).send(command)
        except FAILURES as error:
            raise await self._failed(error) from error
        if isinstance(reply, hiredis.ReplyError):
            return await self._objection(command, reply)
        self.link.worked()
        return reply

    async def _lane(self, key: str) -> Wire:
        """The connection to the server that has this key."""
        place = self._nodes.place(key)
        wire = self._wires.get(place) if place is not None else None
        if wire is not None and not wire.closed:
            return wire
        async with asyncio.timeout(self._timeout_s):
            await self._nodes.ready()
            return await self._wire(self._nodes.place(key) or "")

    async def _objection(self, command: Command, reply: hiredis.ReplyError) -> Any:
        """An error for an answer: raised where it says that the server is of no use, followed where it moved."""
        code = str(reply).partition(" ")[0]
        if code in DOWN:
            raise await self._failed(reply) from reply
        self.link.worked()
        return await self._follow(command) if code in ELSEWHERE else reply

    async def _follow(self, command: Command) -> Any:
        """The slot is moving: let redis-py find it; it also reads the new map."""
        try:
            return await self.run(*command)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, exceptions.NoScriptError):
                return hiredis.ReplyError("NOSCRIPT")
            raise

    async def _wire(self, place: str) -> Wire:
        """The shared connection to a server. Whoever is cancelled does not stop the others' dialling."""
        wire = self._wires.get(place)
        if wire is not None and not wire.closed:
            return wire
        dial = self._dials.get(place)
        if dial is None:
            dial = self._dials[place] = asyncio.get_running_loop().create_task(self._dial(place))
            dial.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(dial)

    async def _dial(self, place: str) -> Wire:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                wire = await self._connect(place, self._timeout_s)
            self._wires[place] = wire
            return wire
        finally:
            del self._dials[place]

    async def _connect(
        self, place: str, timeout_s: float, *, on_push: Callable[[bytes], None] | None = None
    ) -> Wire:
        loop = asyncio.get_running_loop()
        host, port = await self._nodes.address(place)
        _, wire = await loop.create_connection(
            lambda: Wire(loop, timeout_s, on_push=on_push),
            host,
            port,
            ssl=self.target.tls,
        )
        try:
            for reply in await asyncio.gather(*map(wire.send, self._greeting())):
                _healthy(reply)
        except BaseException:
            wire.abort()
            raise
        return wire

    def _greeting(self) -> list[Command]:
        target = self.target
        greeting: list[Command] = []
        if target.password is not None:
            user = (target.username,) if target.username else ()
            greeting.append(("AUTH", *user, target.password))
        if target.db:
            greeting.append(("SELECT", target.db))
        greeting.append(("CLIENT", "SETNAME", self._client_name))
        return greeting

    # What went wrong.

    async def _failed(self, error: Exception) -> StoreUnavailable:
        """Tell the link, if it was the connection or the server; the error to raise."""
        if isinstance(error, StoreUnavailable):
            return error
        if isinstance(error, exceptions.ResponseError) and not isinstance(error, LOST):
            return self._refused(error)
        was_up = self.link.up
        failed = self.link.failed(error, slow=_slow(error))
        if was_up and not self.link.up:
            await self._forget()
        return failed

    def _refused(self, error: Exception) -> StoreUnavailable:
        """The server lives but does not do this: it is out of memory, or forbids it. Each kind is logged once."""
        said = _said(error)
        code = said.partition(" ")[0]
        if code not in self._complained:
            self._complained.add(code)
            logger.error("store refused a command", extra={"store": "redis", "error": said})
        return StoreUnavailable(f"redis refused: {said}")

    async def _forget(self) -> None:
        """Connect anew, to where the sentinels or the cluster say then."""
        for wire in self._wires.values():
            wire.abort()
        self._wires.clear()
        await self._nodes.forget()


def _slow(error: Exception) -> bool:
    """No answer in time, as against refused or cut."""
    return isinstance(error, TimeoutError | exceptions.TimeoutError)


def _healthy(reply: Any) -> None:
    """Raise an error reply; out of memory is not one that ends a connection."""
    if isinstance(reply, hiredis.ReplyError) and not str(reply).startswith(("OOM", "MISCONF")):
        raise reply


def _said(error: BaseException) -> str:
    return f"{error}"[:200] or type(error).__name__
