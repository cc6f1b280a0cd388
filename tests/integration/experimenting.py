"""What the black-box tests of experiments, decisions and feedback share: keys, fleets, many requests, figures."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from routeiq.simulator import CATALOGUE
from tests.integration.fleet import one_each
from tests.integration.helpers import KEY, entry, get, user
from tests.support.http import Answer, connect
from tests.support.processes import Gateway, SimulatorProcess, wait_until

EXPERIMENTS = "/routeiq/v1/experiments"
CHAT = "/v1/chat/completions"
HEADER = "x-routeiq-experiment"
SESSION = "x-routeiq-session-id"
FRESH_AFTER = 20
"""Requests on one connection: then another, which may reach another worker."""


def group(name: str, sim: SimulatorProcess, model: str = "sim-small") -> dict[str, Any]:
    """A model group with the price of the simulated model behind it."""
    known = next(one for one in CATALOGUE if one.name == model)
    info = {
        "id": name,
        "mode": "chat",
        "input_cost_per_token": known.input_usd_per_mtok / 1e6,
        "output_cost_per_token": known.output_usd_per_mtok / 1e6,
        "max_input_tokens": known.context_tokens,
    }
    return entry(name, sim.url, model, info=info)


def secret(name: str) -> str:
    """The secret of a declared key."""
    return f"sk-declared-key-{name}"


def auth(name: str) -> dict[str, str]:
    """The header of a declared key."""
    return {"authorization": f"Bearer {secret(name)}"}


def declared(*names: str, **settings: Any) -> dict[str, Any]:
    """Keys for `routeiq.access.keys`."""
    return {name: {"key": secret(name), **settings} for name in names}


def variant_of(answer: Answer) -> str | None:
    """The variant that the header names."""
    told = answer.headers.get(HEADER)
    return None if told is None else told.partition("=")[2]


class Client:
    """Requests one after another, on a new connection now and then."""

    def __init__(self, url: str, fresh_after: int = FRESH_AFTER) -> None:
        self._connection = connect(url, 60.0)
        self._fresh_after = fresh_after
        self._sent = 0

    def post(self, model: str, text: str, headers: Mapping[str, str]) -> Answer:
        """One chat request."""
        if self._sent % self._fresh_after == 0:
            self._connection.close()
        self._sent += 1
        body = json.dumps({"model": model, "messages": [user(text)]})
        sent = {**KEY, "content-type": "application/json", **headers}
        try:
            self._connection.request("POST", CHAT, body, sent)
            response = self._connection.getresponse()
            data = response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=found, body=data)

    def close(self) -> None:
        self._connection.close()


def many(
    gateways: Sequence[Gateway],
    count: int,
    model: str,
    *,
    headers: Callable[[int], Mapping[str, str]] = lambda number: {SESSION: f"s{number}"},
    clients: int = 8,
    fresh_after: int = FRESH_AFTER,
) -> list[Answer]:
    """`count` requests spread over the gateways, in the order of their numbers."""

    def part(client: int) -> list[Answer]:
        mine = Client(gateways[client % len(gateways)].url, fresh_after)
        with contextlib.closing(mine):
            return [
                mine.post(model, f"What is number {number}?", headers(number))
                for number in range(client, count, clients)
            ]

    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(part, range(clients)))
    return [parts[number % clients][number // clients] for number in range(count)]


def results(gateway: Gateway, name: str) -> dict[str, Any]:
    """What the admin API says came of an experiment."""
    answer = get(gateway, f"{EXPERIMENTS}/{name}/results")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def counted(gateway: Gateway, name: str, field: str = "requests") -> Counter[str]:
    """One figure of each variant."""
    return figures(results(gateway, name), field)


def figures(shown: Mapping[str, Any], field: str) -> Counter[str]:
    """The same of results that were read."""
    variants = shown["variants"]
    return Counter({variant: one[field] for variant, one in variants.items() if one[field]})


def wait_counted(
    gateway: Gateway, name: str, expected: Mapping[str, int], timeout_s: float = 20.0
) -> None:
    """Until the counters are as they must be in the end; says what they are if they do not get there."""
    seen: list[Counter[str]] = [Counter()]

    def right() -> bool:
        answer = get(gateway, f"{EXPERIMENTS}/{name}/results")
        if answer.status == 503:
            return False  # the store is not back yet
        seen[0] = figures(answer.json(), "requests")
        return seen[0] == Counter(expected)

    try:
        wait_until(right, "the counts are complete", timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{dict(seen[0])} instead of {dict(expected)}") from error


def variants_of(answers: Sequence[Answer]) -> Counter[str]:
    """How many requests the headers say each variant had."""
    return Counter(str(variant_of(answer)) for answer in answers)


def command(*arguments: str | Path, database: str = "") -> subprocess.CompletedProcess[str]:
    """A `routeiq` command on a database."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = {**kept, "DATABASE_URL": database} if database else kept
    return subprocess.run(
        [sys.executable, "-m", "routeiq", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        env=env,
    )


def each_worker(gateway: Gateway, page: str, workers: int) -> list[dict[str, Any]]:
    """A page of the admin API from each of the workers."""
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(one)) for one in one_each(gateway, workers)]
        return [line.get(page) for line in lines]


def settle(gateway: Gateway, workers: int) -> None:
    """Until no decision record waits for the database."""
    wait_until(lambda: waiting(gateway, workers) == 0, "nothing waits", 30.0)


def waiting(gateway: Gateway, workers: int) -> int:
    """Decision records that have not reached the database."""
    pages = each_worker(gateway, "status", workers)
    return sum(page["decision_store"]["waiting"] for page in pages)


def record_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The record of a decision from whichever worker, once the one that made it has written it."""
    path = f"/routeiq/v1/decisions/{answer.headers['x-routeiq-decision-id']}"
    found: list[Answer] = []

    def there() -> bool:
        found.append(get(gateway, path))
        return found[-1].status == 200

    wait_until(there, "the record can be found", 20.0)
    record: dict[str, Any] = found[-1].json()
    return record
