"""Several gateways on the same stores, and a connection to each of their workers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.integration.helpers import KEY, user
from tests.support.http import Answer, connect
from tests.support.postgres import own_database
from tests.support.processes import Gateway, start_gateway, wait_until
from tests.support.redis import RedisServer, redis_server

BASE = "/routeiq/v1"
Stores = Literal["sqlite", "postgres", "redis"]


class Line:
    """A kept connection: it reaches the same worker each time, for as long as that lives."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._connection = connect(gateway.url, 30.0)
        self.status = self.get("status")
        self.worker: str = self.status["worker"]
        self.pid: int = self.status["worker_id"]

    def send(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; `path` begins with a slash. With the master key, unless `headers` say otherwise."""
        raw = None if body is None else json.dumps(body).encode()
        sent = {**KEY, "content-type": "application/json", **(headers or {})}
        self._connection.request(method or ("GET" if raw is None else "POST"), path, raw, sent)
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=found, body=response.read())

    def get(self, page: str) -> Any:
        """The JSON of a page of the admin API."""
        answer = self.send(f"{BASE}/{page}")
        assert answer.status == 200, answer.body
        return answer.json()

    def put(self, page: str, body: Any, **headers: str) -> Answer:
        return self.send(f"{BASE}/{page}", body, method="PUT", headers=headers)

    def chat(
        self,
        model: str = "auto",
        content: Any = "hello",
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        body = {"model": model, "messages": [user(content)], **fields}
        return self.send("/v1/chat/completions", body, headers=headers)

    def close(self) -> None:
        self._connection.close()


def one_each(gateway: Gateway, workers: int) -> list[Line]:
    """A line to each worker of a gateway: the kernel spreads connections, so it takes a few."""
    found: dict[str, Line] = {}
    deadline = time.monotonic() + 30.0
    while len(found) < workers:
        assert time.monotonic() < deadline, f"only {len(found)} workers answer"
        line = Line(gateway)
        if line.worker in found:
            line.close()
        else:
            found[line.worker] = line
    return list(found.values())


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Gateways that share stores. `lines` has one connection per worker, those of the first gateway first."""

    gateways: list[Gateway]
    lines: list[Line]
    env: dict[str, str]
    redis: RedisServer | None = None

    @property
    def first(self) -> Line:
        return self.lines[0]

    @property
    def last(self) -> Line:
        """A worker of another gateway than `first`, where there is another."""
        return self.lines[-1]

    def hang_up(self) -> None:
        """Close every line."""
        for line in self.lines:
            line.close()
        self.lines.clear()

    def report(self) -> dict[str, Any]:
        """What `GET /workers` says of those that live."""
        found: dict[str, Any] = self.first.get("workers")
        mine = {line.worker for line in self.lines}
        return {**found, "data": [one for one in found["data"] if one["id"] in mine]}

    def agreed(self) -> bool:
        """Whether all workers report to have applied the same."""
        found = self.report()
        return len(found["data"]) == len(self.lines) and found["agreed"]

    def reaches_all(
        self, holds: Callable[[Line], bool], what: str, timeout_s: float = 3.0
    ) -> float:
        """Until it holds at every worker; seconds that took."""
        begun, left = time.monotonic(), list(self.lines)
        while left := [line for line in left if not holds(line)]:
            passed = time.monotonic() - begun
            assert passed < timeout_s, f"{what}: {len(left)} of {len(self.lines)} workers have not"
            time.sleep(0.01)
        return time.monotonic() - begun


def migrate(url: str) -> None:
    """What the installation's job does before the gateways start."""
    command = [sys.executable, "-m", "routeiq", "admin", "migrate", "--database-url", url]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def stores(kind: Stores, folder: Path) -> Iterator[tuple[dict[str, str], RedisServer | None]]:
    """The environment of gateways that share them: a SQLite file, PostgreSQL, or that and Redis."""
    if kind == "sqlite":
        yield {"DATABASE_URL": f"sqlite:///{folder}/fleet.db"}, None
        return
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_database())
        migrate(url)
        if kind == "postgres":
            yield {"DATABASE_URL": url}, None
            return
        redis = stack.enter_context(redis_server())
        yield {"DATABASE_URL": url, "REDIS_URL": redis.url}, redis


@contextlib.contextmanager
def fleet(
    config: Path,
    kind: Stores = "redis",
    *,
    gateways: int = 2,
    workers: int = 4,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Fleet]:
    """Gateways with the same configuration on the same stores; ended with the block."""
    with contextlib.ExitStack() as stack:
        shared, redis = stack.enter_context(stores(kind, config.parent))
        whole = {**shared, **(env or {})}
        made = Fleet(gateways=[], lines=[], env=whole, redis=redis)
        stack.callback(made.hang_up)
        for _ in range(gateways):
            join(stack, made, config, workers, arguments)
        wait_until(made.agreed, "all workers report the same", 15.0)
        yield made


def join(
    stack: contextlib.ExitStack,
    made: Fleet,
    config: Path,
    workers: int,
    arguments: Sequence[str] = (),
) -> None:
    """One more gateway."""
    started = start_gateway(config, *arguments, workers=workers, env=made.env)
    gateway = stack.enter_context(started)
    made.gateways.append(gateway)
    made.lines += one_each(gateway, workers)
