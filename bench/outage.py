"""A store is gone for a minute under load: `python -m bench.outage --store redis|postgresql [--seconds 60]`.

Run by hand. Starts its own server, simulator and gateway; says what clients saw before, during and after, how soon
the gateway noticed and was ready again, and whether everything was counted once.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import click

from routeiq.ports import SystemClock
from routeiq.state.postgres_migrate import migrate_postgres
from tests.chaos.tools import (
    KeepAlive,
    admin,
    budget_used,
    chat_body,
    configure,
    make_key,
    place,
    wait_idle,
    wait_store,
)
from tests.support.postgres import own_server
from tests.support.processes import Gateway, start_gateway, start_simulator, wait_until
from tests.support.redis import redis_server

PRICES: dict[str, Any] = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
AROUND_S = 10.0
"""How long before and after the outage."""


class Server(Protocol):
    """A store's own server."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Traffic:
    """Clients of one key. `seen` has when each request began, how long it took, its status and its cost."""

    def __init__(self, gateway: Gateway, key: str, clients: int) -> None:
        self.seen: list[tuple[float, float, int, float]] = []
        self._gateway, self._key = gateway, key
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def cost(self) -> float:
        """Of everything that was answered."""
        return sum(cost for _, _, status, cost in self.seen if status == 200)

    def answered(self) -> int:
        """Requests that succeeded."""
        return sum(status == 200 for _, _, status, _ in self.seen)

    def between(self, begin: float, end: float) -> dict[str, Any]:
        """What clients saw of the requests that began in this time."""
        some = [one for one in self.seen if begin <= one[0] < end]
        times = sorted(took for _, took, _, _ in some)
        return {
            "statuses": dict(Counter(str(status) for _, _, status, _ in some)),
            "p50_ms": round(share(times, 0.5) * 1e3, 1),
            "p99_ms": round(share(times, 0.99) * 1e3, 1),
            "max_ms": round(share(times, 1.0) * 1e3, 1),
        }

    def _run(self) -> None:
        connection = KeepAlive(self._gateway.url)
        while not self._stop.is_set():
            began, status, cost = time.monotonic(), 0, 0.0
            try:
                answer = connection.post(chat_body(), self._key)
                status = answer.status
                cost = float(answer.headers.get("x-routeiq-cost-usd", "0"))
            except OSError:
                connection.close()
            self.seen.append((began, time.monotonic() - began, status, cost))
            time.sleep(0.005)
        connection.close()


def share(times: Sequence[float], part: float) -> float:
    """A quantile of sorted times."""
    return times[min(int(len(times) * part), len(times) - 1)] if times else 0.0


@contextmanager
def site(store: str, workers: int, queue: int) -> Iterator[tuple[Gateway, Server]]:
    """A gateway and its store."""
    with ExitStack() as stack:
        sim = stack.enter_context(start_simulator())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        experiment = {"variants": {"a": {}, "b": {}}, "models": ["pair"], "subject": ["request"]}
        routeiq = {"experiments": {"split": experiment}, "decisions": {"queue": queue}}
        only = place("first", sim.url, "sim-small", **PRICES)
        path = configure(folder, sim, only, routeiq=routeiq)
        server: Any
        if store == "redis":
            server = stack.enter_context(redis_server())
            env = {"REDIS_URL": server.url}
        else:
            server = stack.enter_context(own_server())
            migrate_postgres(server.url, SystemClock())
            env = {"DATABASE_URL": server.url}
        yield stack.enter_context(start_gateway(path, workers=workers, env=env)), server


def counted(gateway: Gateway) -> int:
    """Exposures of the experiment."""
    found = admin(gateway, "experiments/split/results")["variants"]
    return sum(one["requests"] for one in found.values())


def decisions(gateway: Gateway, workers: int) -> dict[str, int]:
    """Of all workers together."""
    seen: dict[int, dict[str, int]] = {}
    while len(seen) < workers:
        found = admin(gateway, "status")
        seen[found["worker_id"]] = found["decision_store"]
    names = ("written", "waiting", "dropped")
    return {name: sum(one[name] for one in seen.values()) for name in names}


def outage(store: str, *, seconds: float, workers: int, queue: int) -> dict[str, Any]:
    """Do it; what was seen."""
    name = "redis" if store == "redis" else "database"
    with site(store, workers, queue) as (gateway, server):
        budget = {"usd": 1000.0, "per": "total"}
        open_key = make_key(
            gateway, "open", limits={"requests_per_minute": 10**6}, budgets=[budget]
        )
        closed_limits = {"requests_per_minute": 10**6, "fail": "closed"}
        closed_key = make_key(gateway, "closed", limits=closed_limits)
        traffic = {"open": Traffic(gateway, open_key, 3), "closed": Traffic(gateway, closed_key, 1)}
        marks = [time.monotonic()]
        time.sleep(AROUND_S)
        server.stop()
        marks.append(time.monotonic())
        noticed_s = wait_store(gateway, name, "down", workers=workers)
        time.sleep(max(seconds - noticed_s, 0.0))
        server.start()
        marks.append(time.monotonic())
        ready_s = wait_store(gateway, name, "up", workers=workers)
        time.sleep(AROUND_S)
        for one in traffic.values():
            one.stop()
        marks.append(time.monotonic())
        wait_idle(gateway)
        total = sum(one.answered() for one in traffic.values())
        wait_until(lambda: decisions(gateway, workers)["waiting"] == 0, "decisions written", 30.0)
        time.sleep(2.0)  # whatever would be counted twice is counted by then
        return {
            "store": store,
            "seconds": seconds,
            "workers": workers,
            "noticed_s": round(noticed_s, 2),
            "ready_after_s": round(ready_s, 2),
            **{
                key: {
                    part: one.between(begin, end)
                    for part, begin, end in zip(
                        ("before", "during", "after"), marks[:-1], marks[1:], strict=True
                    )
                }
                for key, one in traffic.items()
            },
            "answered": total,
            "exposures": counted(gateway),
            "cost_usd": round(traffic["open"].cost(), 9),
            "spent_usd": round(budget_used(gateway, open_key), 9),
            "decisions": decisions(gateway, workers),
        }


@click.command()
@click.option("--store", type=click.Choice(["redis", "postgresql"]), required=True)
@click.option("--seconds", type=click.FloatRange(1.0), default=60.0, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--queue", type=click.IntRange(1), default=20_000, show_default=True)
def main(store: str, seconds: float, workers: int, queue: int) -> None:
    """Stop a store under load and see."""
    click.echo(json.dumps(outage(store, seconds=seconds, workers=workers, queue=queue), indent=2))


if __name__ == "__main__":
    main()
