"""What the tests of keys, limits and budgets share: gateways whose every worker is addressed by itself."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.integration.helpers import catalogue
from tests.support.http import Answer, call, connect
from tests.support.postgres import own_database
from tests.support.processes import MASTER_KEY, Gateway, start_gateway, wait_until
from tests.support.redis import BINARY, RedisServer, redis_server

CHAT = "/v1/chat/completions"
ADMIN = "/routeiq/v1"
IDLE_S = 15.0
"""A connection that was not used for so long may be closed by the gateway soon."""
SLACK = 3.0
"""How much longer than promised something may take on a machine that is busy with other tests."""
T = TypeVar("T")
_numbers = itertools.count(1)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


class Line:
    """One worker, by a connection that only it serves."""

    def __init__(self, url: str, pid: int, connection: http.client.HTTPConnection) -> None:
        self.pid = pid
        self._url = url
        self._connection = connection
        self._used = time.monotonic()

    def send(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to this worker."""
        if time.monotonic() - self._used > IDLE_S:
            self._reconnect()
        self._used = time.monotonic()
        return _exchange(self._connection, path, body, method, headers)

    def close(self) -> None:
        self._connection.close()

    def _reconnect(self) -> None:
        self.close()
        for pid, connection in _callers(self._url):
            if pid == self.pid:
                self._connection = connection
                return
            connection.close()


def _exchange(
    connection: http.client.HTTPConnection,
    path: str,
    body: Any,
    method: str,
    headers: Mapping[str, str] | None,
) -> Answer:
    raw = None if body is None else json.dumps(body)
    sent = {"content-type": "application/json", **(headers or {})}
    connection.request(method or ("GET" if raw is None else "POST"), path, raw, sent)
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(status=response.status, headers=found, body=response.read())


def _callers(url: str) -> Iterator[tuple[int, http.client.HTTPConnection]]:
    """New connections, with the worker that took each; the system spreads them."""
    for _ in range(200):
        connection = connect(url)
        answer = _exchange(connection, f"{ADMIN}/status", None, "", bearer(MASTER_KEY))
        yield int(answer.json()["worker_id"]), connection
    raise AssertionError(f"some worker of {url} takes no connection")


class Pending:
    """A chat request that was sent and whose answer nobody reads yet."""

    def __init__(
        self, connection: http.client.HTTPConnection, secret: str, model: str, **fields: Any
    ) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "Wait."}], **fields}
        headers = {"content-type": "application/json", **bearer(secret)}
        connection.request("POST", CHAT, json.dumps(body), headers)
        self._connection = connection

    def answered(self) -> bool:
        """Whether an answer has begun."""
        return bool(select.select([self._connection.sock], [], [], 0)[0])

    def status(self) -> int:
        """Of the answer; waits for its head and leaves the rest."""
        return self._connection.getresponse().status

    def leave(self) -> None:
        """Close the connection, as a client that does not want to wait."""
        self._connection.close()


@dataclass(slots=True, kw_only=True)
class Made:
    """A key, a user or a team that a test made. `secret` is empty but for keys."""

    kind: str
    id: str
    alias: str
    secret: str = ""
    view: dict[str, Any] = field(default_factory=dict)


class Fleet:
    """Gateways that share their stores."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        workers: int,
        *,
        database: str,
        redis: RedisServer | None = None,
    ) -> None:
        self.gateways = gateways
        self.workers = workers
        self.database = database
        self.redis = redis
        self._turn = itertools.cycle(gateways)
        self._lines: list[Line] = []

    def __repr__(self) -> str:
        return "sqlite" if self.redis is None else "shared"

    @property
    def lines(self) -> Sequence[Line]:
        """One to each worker."""
        if not self._lines:
            for gateway in self.gateways:
                self._lines += self._all_of(gateway)
        return self._lines

    def _all_of(self, gateway: Gateway) -> list[Line]:
        found: dict[int, Line] = {}
        callers = _callers(gateway.url)
        while len(found) < self.workers:
            pid, connection = next(callers)
            if pid in found:
                connection.close()
            else:
                found[pid] = Line(gateway.url, pid, connection)
        return list(found.values())

    def hang_up(self) -> None:
        """Close the connections to the workers; `lines` makes others."""
        for line in self._lines:
            line.close()
        self._lines = []

    def chat(
        self,
        secret: str,
        model: str = "sim-small",
        text: str = "Say hello.",
        *,
        line: Line | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """A chat request, to the gateways in turn or to one worker."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        sent = {**bearer(secret), **(headers or {})}
        if line is not None:
            return line.send(CHAT, body, headers=sent)
        return call(next(self._turn).url + CHAT, body, headers=sent)

    def send(self, secret: str, model: str, *, pid: int | None = None, **fields: Any) -> Pending:
        """A request that is not waited for, to the gateways in turn or to one worker of the first."""
        if pid is None:
            return Pending(connect(next(self._turn).url), secret, model, **fields)
        for found, connection in _callers(self.gateways[0].url):
            if found == pid:
                return Pending(connection, secret, model, **fields)
            connection.close()
        raise AssertionError(f"no worker {pid}")

    def statuses(self, secret: str, **fields: Any) -> list[int]:
        """What each worker says to a request with this key."""
        return [self.chat(secret, line=line, **fields).status for line in self.lines]

    def admin(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "",
        key: str = MASTER_KEY,
        headers: Mapping[str, str] | None = None,
        line: Line | None = None,
    ) -> Answer:
        """A request to the admin API; `path` begins after `/routeiq/v1`."""
        sent = {**bearer(key), **(headers or {})}
        if line is not None:
            return line.send(ADMIN + path, body, method=method, headers=sent)
        return call(next(self._turn).url + ADMIN + path, body, method=method, headers=sent)

    def read(self, path: str, key: str = MASTER_KEY) -> Any:
        """What a page of the admin API shows."""
        answer = self.admin(path, key=key)
        assert answer.status == 200, answer.body
        return answer.json()

    def make(self, kind: str, *, by: str = MASTER_KEY, **body: Any) -> Made:
        """A key, a user or a team with these fields."""
        alias = body.pop("alias", None) or f"test-{kind}-{os.getpid()}-{next(_numbers)}"
        answer = self.admin(f"/{kind}s", {"alias": alias, **body}, key=by)
        assert answer.status == 201, answer.body
        view = answer.json()
        secret = view.pop("secret", "")
        return Made(kind=kind, id=view["id"], alias=alias, secret=secret, view=view)

    def key(self, **settings: Any) -> Made:
        """A key with these settings and no owner."""
        return self.make("key", settings=settings)

    def change(self, made: Made, **body: Any) -> dict[str, Any]:
        """PATCH; what it became."""
        answer = self.admin(f"/{made.kind}s/{made.id}", body, method="PATCH")
        assert answer.status == 200, answer.body
        view: dict[str, Any] = answer.json()
        return view

    def audit(self, *targets: str) -> list[dict[str, Any]]:
        """Audit rows about these, oldest first."""
        rows = self.read("/audit?limit=1000")["data"]
        return [row for row in reversed(rows) if row["target"] in targets]

    def used(self, made: Made, kind: str, page: str = "limits") -> float:
        """How much of a limit of this key, user or team (at its own level) is used."""
        found = self.read(f"/{page}?{made.kind}={made.id}")["data"]
        (used,) = [
            one["used"] for one in found if (one["limits"], one["level"]) == (kind, made.kind)
        ]
        return float(used)

    def logs(self) -> str:
        return "".join(gateway.log() for gateway in self.gateways)


@contextlib.contextmanager
def sqlite_fleet(config: Path, *, workers: int = 2, folder: Path | None = None) -> Iterator[Fleet]:
    """One gateway on an SQLite file in `folder`."""
    path = (folder or config.parent) / "access.db"
    url = f"sqlite:///{path}"
    with start_gateway(config, workers=workers, env={"DATABASE_URL": url}) as gateway:
        fleet = Fleet([gateway], workers, database=str(path))
        try:
            yield fleet
        finally:
            fleet.hang_up()


@contextlib.contextmanager
def shared_fleet(config: Path, *, gateways: int = 2, workers: int = 2) -> Iterator[Fleet]:
    """Several gateways on one PostgreSQL database and one Redis server of their own."""
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    with own_database() as database, redis_server() as redis, contextlib.ExitStack() as stack:
        migrate(database)
        env = {"DATABASE_URL": database, "REDIS_URL": redis.url}
        running = [
            stack.enter_context(start_gateway(config, workers=workers, env=env))
            for _ in range(gateways)
        ]
        fleet = Fleet(running, workers, database=database, redis=redis)
        stack.callback(fleet.hang_up)
        yield fleet


def migrate(database: str) -> None:
    """As the job before a deployment does."""
    done = routeiq("admin", "migrate", "--database-url", database)
    assert done.returncode == 0, done.stderr


def routeiq(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command with a clean environment, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "routeiq", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
    )


def models(sim_url: str) -> list[dict[str, Any]]:
    """The simulated models, with one attempt each so that failures are quick."""
    entries = catalogue(sim_url)
    for one in entries:
        one["litellm_params"]["max_retries"] = 0
    return entries


def together(work: Callable[[int], T], count: int, threads: int = 16) -> list[T]:
    """`work(0)`, `work(1)` … at once."""
    with ThreadPoolExecutor(min(count, threads)) as pool:
        return list(pool.map(work, range(count)))


def until(condition: Callable[[], bool], what: str, within_s: float) -> float:
    """Wait for it, at most `SLACK` times as long as promised; how long it took."""
    begun = time.monotonic()
    wait_until(condition, what, within_s * SLACK)
    return time.monotonic() - begun
