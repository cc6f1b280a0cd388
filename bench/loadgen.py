"""Our own load generator, a process of its own: `python -m bench.loadgen` reads a job from stdin, as JSON.

- `closed`: N connections, each sends its next request when the last is answered. Stands in for wrk. Requests under
  way at the end are waited for and counted: the CPU that they cost is, too.
- `open`: a fixed rate, alternating between targets. Latency runs from the moment at which a request was due, not
  from when it could be sent, so that a stall is seen by every request that it delays (no coordinated omission).
- `streams`: the same with event streams; notes when which events arrived.

The answer on stdout is JSON; times in milliseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import httptools
import orjson
import uvloop

_EVENT_END = b"\n\n"
_LINGER_S = 10.0
_EDGE_S = 0.005


class Client(asyncio.Protocol):
    """One connection; `done` is called after each answer, also when the connection is lost before its end."""

    def __init__(self, done: Callable[[Client], None]) -> None:
        self.status = 0
        self.ended_s = 0.0
        self.due_s = 0.0
        self.busy = False
        self.lost = False
        self.arrivals: list[tuple[float, int]] = []
        self._done = done
        self._now = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.busy:
            self._finish(0)

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        count = body.count(_EVENT_END)
        if self.arrivals and self.arrivals[-1][0] == self._now:
            count += self.arrivals.pop()[1]
        self.arrivals.append((self._now, count))

    def on_message_complete(self) -> None:
        self._finish(self._parser.get_status_code())

    def _finish(self, status: int) -> None:
        self.status, self.ended_s, self.busy = status, time.perf_counter(), False
        self._done(self)

    def send(self, wire: bytes, due_s: float) -> None:
        """Send a request."""
        self.arrivals.clear()
        self.due_s, self.busy = due_s, True
        if self.lost:
            self._finish(0)
        else:
            self._transport.write(wire)

    def close(self) -> None:
        """Hang up, whatever is under way."""
        self.busy = False
        self._transport.abort()


async def connect(target: dict[str, Any], done: Callable[[Client], None]) -> Client:
    """A connection to a target of the job."""
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: Client(done), target["host"], target["port"]))[1]


async def closed(job: dict[str, Any]) -> dict[str, Any]:
    """N connections, each one request at a time."""
    target = job["targets"][0]
    wire = target["wire"].encode()
    latencies: list[float] = []
    errors = 0
    running = True
    under_way = job["connections"]

    def done(client: Client) -> None:
        nonlocal errors, under_way
        if client.status == 200:
            latencies.append(client.ended_s - client.due_s)
        else:
            errors += 1
        if running and not client.lost:
            client.send(wire, time.perf_counter())
        else:
            under_way -= 1

    clients = [await connect(target, done) for _ in range(job["connections"])]
    began = time.perf_counter()
    for client in clients:
        client.send(wire, time.perf_counter())
    await asyncio.sleep(job["seconds"])
    running = False
    until = time.perf_counter() + job["linger_s"]
    while under_way and time.perf_counter() < until:
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    errors += under_way
    return {"requests": len(latencies), "errors": errors, "seconds": took, **summary(latencies)}


def summary(latencies: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    ordered = sorted(latencies)
    return {
        "p50_ms": quantile(ordered, 0.50) * 1e3,
        "p99_ms": quantile(ordered, 0.99) * 1e3,
        "max_ms": (ordered[-1] if ordered else 0.0) * 1e3,
    }


def quantile(ordered: list[float], share: float) -> float:
    """Nearest rank; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Paced:
    """Requests at a fixed rate, to several targets in turn, on as many connections as are needed."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._targets = job["targets"]
        self._wires = [target["wire"].encode() for target in self._targets]
        self._idle: list[list[Client]] = [[] for _ in self._targets]
        self.answers: list[list[dict[str, Any]]] = [[] for _ in self._targets]
        self.under_way = [0] * len(self._targets)
        self._connecting: set[asyncio.Task[None]] = set()

    def fire(self, index: int, due_s: float) -> None:
        """Send one request that was due at `due_s`."""
        self.under_way[index] += 1
        if self._idle[index]:
            self._idle[index].pop().send(self._wires[index], due_s)
        else:
            task = asyncio.create_task(self._fire_new(index, due_s))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _fire_new(self, index: int, due_s: float) -> None:
        client = await connect(self._targets[index], lambda one: self._answered(index, one))
        client.send(self._wires[index], due_s)

    async def warm(self, connections: int) -> None:
        """Open connections and use each once, uncounted."""
        for index in range(len(self._targets)):
            for _ in range(connections):
                self.under_way[index] += 1
                await self._fire_new(index, time.perf_counter())
        await self.settled()
        for answers in self.answers:
            answers.clear()

    def _answered(self, index: int, client: Client) -> None:
        self.under_way[index] -= 1
        self.answers[index].append(
            {
                "status": client.status,
                "latency": client.ended_s - client.due_s,
                "arrivals": [(at - client.due_s, count) for at, count in client.arrivals],
            }
        )
        if not client.lost:
            self._idle[index].append(client)

    async def settled(self) -> None:
        """Wait for what is under way, for a while."""
        until = time.perf_counter() + _LINGER_S
        while any(self.under_way) and time.perf_counter() < until:
            await asyncio.sleep(0.01)


async def paced(job: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Every answer, by target. A thread keeps the time: the loop's own timers have a grain of 1 ms."""
    loop = asyncio.get_running_loop()
    pacer = Paced(job)
    await pacer.warm(job["connections"])
    count = len(job["targets"])
    gap = 1 / (job["rate"] * count)
    began = time.perf_counter() + 0.05

    def tick() -> None:
        for number in range(int(job["seconds"] / gap)):
            due = began + number * gap
            if (pause := due - time.perf_counter()) > 0:
                time.sleep(pause)
            loop.call_soon_threadsafe(pacer.fire, number % count, due)

    keeper = threading.Thread(target=tick)
    keeper.start()
    await asyncio.sleep(job["seconds"] + 0.1)
    keeper.join()
    await pacer.settled()
    silence = {"status": 0, "latency": _LINGER_S, "arrivals": []}
    for answers, missing in zip(pacer.answers, pacer.under_way, strict=True):
        answers += [silence] * missing
    return pacer.answers


async def open_loop(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Latency by target, at a fixed rate for each."""
    return [
        {
            "requests": len(answers),
            "errors": sum(one["status"] != 200 for one in answers),
            **summary([one["latency"] for one in answers]),
        }
        for answers in await paced(job)
    ]


async def streams(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Time to the first event and gaps between arrivals, by target."""
    found = []
    for answers in await paced(job):
        good = [one["arrivals"] for one in answers if one["status"] == 200 and one["arrivals"]]
        gaps = sorted(
            later[0] - earlier[0]
            for arrivals in good
            for earlier, later in itertools.pairwise(arrivals)
        )
        first = summary([arrivals[0][0] for arrivals in good])
        found.append(
            {
                "requests": len(answers),
                "errors": len(answers) - len(good),
                "events": quantile(sorted(sum(n for _, n in one) for one in good), 0.5),
                "first_p50_ms": first["p50_ms"],
                "first_p99_ms": first["p99_ms"],
                "gap_p50_ms": quantile(gaps, 0.50) * 1e3,
                "gap_p99_ms": quantile(gaps, 0.99) * 1e3,
                "gap_max_ms": (gaps[-1] if gaps else 0.0) * 1e3,
                "merged": sum(merged(arrivals) for arrivals in good),
            }
        )
    return found


def merged(arrivals: list[tuple[float, int]]) -> int:
    """Arrivals with several events in the middle of a stream, where the provider sent them one by one.

    At its beginning and end they come together by nature: the role with the first text, the last with the usage.
    """
    first, last = arrivals[0][0] + _EDGE_S, arrivals[-1][0] - _EDGE_S
    return sum(count > 1 for at, count in arrivals if first < at < last)


def main() -> None:
    """Run the job on stdin."""
    job = orjson.loads(sys.stdin.buffer.read())
    run = {"closed": closed, "open": open_loop, "streams": streams}[job["mode"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(orjson.dumps(runner.run(run(job))))


if __name__ == "__main__":
    main()
