"""What the chaos tests share: steerable deployments, raw clients, load, and looking into processes."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

from tests.support.http import Answer, call, connect
from tests.support.processes import (
    MASTER_KEY,
    Gateway,
    SimulatorProcess,
    deployment,
    wait_until,
    write_config,
)


def bearer(key: str) -> dict[str, str]:
    """The header with which a key is shown."""
    return {"authorization": f"Bearer {key}"}


AUTH = bearer(MASTER_KEY)
CHAT = "/v1/chat/completions"


class Serving(Protocol):
    """A gateway, or what stands in front of several."""

    @property
    def url(self) -> str: ...

    def running(self) -> bool: ...


def place(id: str, sim_url: str, model: str, group: str = "pair", **params: Any) -> dict[str, Any]:
    """A deployment with a known id. Steer it by its simulated model's name."""
    return {**deployment(group, sim_url, model, **params), "model_info": {"id": id}}


def pair(sim_url: str, **params: Any) -> list[dict[str, Any]]:
    """Group `pair`: `first` (sim-small) is always asked before `second` (sim-large)."""
    return [
        place("first", sim_url, "sim-small", order=1, **params),
        place("second", sim_url, "sim-large", order=2, **params),
    ]


def configure(folder: Path, sim: SimulatorProcess, *places: Mapping[str, Any], **rest: Any) -> Path:
    """A configuration with exactly these deployments; without any, those of `pair`."""
    resilience = {"backoff_base_s": 0.01, **rest.pop("resilience", {})}
    routeiq = {"resilience": resilience, **rest.pop("routeiq", {})}
    entries = places or pair(sim.url)
    return write_config(folder, sim.url, (), model_list=entries, routeiq=routeiq, **rest)


def chat_body(text: str = "hello", model: str = "pair", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def ask(
    gateway: Serving,
    text: str = "hello",
    *,
    timeout: float = 30.0,
    key: str = MASTER_KEY,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Answer:
    """One chat request on its own connection."""
    sent = {**bearer(key), **(headers or {})}
    return call(gateway.url + CHAT, chat_body(text, **more), headers=sent, timeout=timeout)


def error_code(answer: Answer) -> str | None:
    """The `code` of an error answer, or of the error event that ends a stream."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        events = [one for one in answer.events() if one != "[DONE]"]
        found = json.loads(events[-1]) if events else {}
    else:
        found = answer.json()
    code: str | None = found.get("error", {}).get("code")
    return code


def admin(gateway: Gateway, path: str) -> Any:
    """The JSON of a page of the admin API."""
    answer = call(f"{gateway.url}/routeiq/v1/{path}", headers=AUTH)
    assert answer.status == 200, answer.body
    return answer.json()


def make_key(gateway: Serving, alias: str, **settings: Any) -> str:
    """The secret of a new key."""
    body = {"alias": alias, "settings": settings}
    answer = call(f"{gateway.url}/routeiq/v1/keys", body, headers=AUTH)
    assert answer.status == 201, answer.body
    secret: str = answer.json()["secret"]
    return secret


def budget_used(gateway: Serving, key: str) -> float:
    """What a key has used of its only budget."""
    answer = call(f"{gateway.url}/routeiq/v1/usage", headers=bearer(key))
    assert answer.status == 200, answer.body
    (budget,) = answer.json()["budgets"]
    return float(budget["used"])


def readiness(gateway: Serving) -> tuple[int, str, dict[str, str]]:
    """Status code, word and the state of each store, as one worker's probe says."""
    answer = call(f"{gateway.url}/_health/ready", timeout=5.0)
    body = answer.json()
    stores = {name: one["state"] for name, one in body.get("stores", {}).items()}
    return answer.status, body["status"], stores


def wait_store(gateway: Gateway, name: str, state: str, *, workers: int = 1) -> float:
    """Until every worker says this of a store, and the probe agrees; the seconds that took."""
    begun = time.monotonic()

    def said() -> bool:
        seen = {}
        for _ in range(workers * 12):
            found = admin(gateway, "status")
            seen[found["worker_id"]] = found["stores"][name]["state"]
            if len(seen) == workers:
                break
        return len(seen) == workers and set(seen.values()) == {state}

    wait_until(said, f"{name} is {state} for {workers} workers", 20.0)
    status, word, stores = readiness(gateway)
    assert (status, stores[name]) == (200, state)
    assert word == ("ready" if set(stores.values()) == {"up"} else "degraded")
    return time.monotonic() - begun


def breaker(gateway: Gateway, id: str) -> str:
    """The state of a deployment's breaker as the admin API's list of models says."""
    state: str = next(
        one["breaker"] for one in admin(gateway, "models")["data"] if one["deployment"] == id
    )
    return state


def in_flight(gateway: Gateway) -> int:
    """Requests that the gateway counts as being under way, and calls to providers."""
    calls = sum(one["in_flight"] for one in admin(gateway, "models")["data"])
    count: int = admin(gateway, "status")["in_flight"]
    return count + int(calls)


def wait_idle(gateway: Gateway, timeout_s: float = 5.0) -> None:
    wait_until(lambda: in_flight(gateway) == 0, "nothing is under way", timeout_s)


def records(gateway: Gateway) -> list[dict[str, Any]]:
    """The access log's lines about routed requests, oldest first."""
    lines = [line for line in gateway.log().splitlines() if line.startswith("{")]
    parsed = [json.loads(line) for line in lines]
    return [one for one in parsed if "decision_id" in one]


def record_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The access log's line about one request, once it has been written."""
    found: list[dict[str, Any]] = []

    def written() -> bool:
        found.extend(one for one in records(gateway) if one["request_id"] == request_id)
        return bool(found)

    wait_until(written, f"request {request_id} is logged", 5.0)
    return found[0]


def complaints(gateway: Gateway) -> list[str]:
    """Log lines that say something went wrong inside the gateway."""
    return [
        line
        for line in gateway.log().splitlines()
        if '"level":"ERROR"' in line or "Traceback" in line or "never retrieved" in line
    ]


def calls_to(sim: SimulatorProcess, model: str) -> int:
    """How many chat requests for `model` reached the simulator since its last reset."""
    return sum((one["json"] or {}).get("model") == model for one in sim.requests())


def texts_seen(sim: SimulatorProcess) -> list[str]:
    """The prompts that reached the simulator, in order."""
    bodies = [one["json"] or {} for one in sim.requests()]
    return [body["messages"][-1]["content"] for body in bodies if body.get("messages")]


class RawStream:
    """A client that reads a streamed chat answer piece by piece and can leave at any time."""

    def __init__(self, gateway: Serving, text: str = "hello", **more: Any) -> None:
        host, port = gateway.url.removeprefix("http://").split(":")
        raw = json.dumps(chat_body(text, stream=True, **more)).encode()
        self.id = f"raw-{time.monotonic_ns()}"
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\n"
            f"x-request-id: {self.id}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(raw)}\r\n\r\n"
        ).encode()
        self.socket = socket.create_connection((host, int(port)), timeout=20.0)
        self.socket.sendall(head + raw)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def until(self, marker: bytes, count: int = 1) -> bytes:
        """Read until `marker` has come `count` times; all that was received."""
        while self.received.count(marker) < count:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"ended without {marker!r}: {self.received[-500:]!r}")
            self.received += data
        return self.received

    def rest(self) -> bytes:
        """Read to the end of the connection; all that was received."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received


class Load:
    """Clients that send requests in a loop from threads, until told to stop or the gateway ends.

    Each request's prompt is its own number, so that the simulator's record says which of them arrived.
    `outcomes` maps it to ("ok", status), ("refused", code of a clean error) or ("lost", why).
    """

    def __init__(
        self,
        gateway: Serving,
        *,
        clients: int,
        fresh: bool,
        stream: bool = False,
        key: str = MASTER_KEY,
    ) -> None:
        self.gateway = gateway
        self.key = key
        self.fresh = fresh
        self.stream = stream
        self.outcomes: dict[str, tuple[str, str]] = {}
        self.answers: dict[str, Answer] = {}
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._runs = [self._pool.submit(self._run, number) for number in range(clients)]

    def stop(self) -> None:
        """No more requests; wait for those under way."""
        self._stop.set()
        for run in self._runs:
            run.result(60.0)
        self._pool.shutdown()

    def count(self, kind: str) -> int:
        return sum(outcome[0] == kind for outcome in list(self.outcomes.values()))

    def _run(self, client: int) -> None:
        number = 0
        connection = KeepAlive(self.gateway.url)
        while not self._stop.is_set() and self.gateway.running():
            number += 1
            text = f"request {client}-{number}"
            try:
                answer = connection.post(chat_body(text, stream=self.stream), self.key)
            except OSError as error:
                self.outcomes[text] = ("lost", repr(error))
                time.sleep(0.02)
                connection.close()
                continue
            self.answers[text] = answer
            self.outcomes[text] = self._judge(answer)
            if self.fresh:
                connection.close()
        connection.close()

    def _judge(self, answer: Answer) -> tuple[str, str]:
        if answer.status == 200:
            whole = answer.body.endswith(b"data: [DONE]\n\n") and b'"error"' not in answer.body
            if self.stream and not whole:
                return ("lost", f"stream is not whole: {answer.body[-300:]!r}")
            return ("ok", "200")
        return ("refused", str(error_code(answer)))


class KeepAlive:
    """Requests on one connection for as long as the server keeps it, then on another.

    A connection that the server has already closed is not used: a client cannot tell the answer to a
    request that it sends on such a one from a lost one.
    """

    def __init__(self, url: str) -> None:
        self._connection = connect(url, 30.0)

    def post(self, body: Any, key: str = MASTER_KEY) -> Answer:
        sock = self._connection.sock
        if sock is not None and _at_end(sock):
            self._connection.close()
        raw = json.dumps(body)
        self._connection.request(
            "POST", CHAT, raw, {**bearer(key), "content-type": "application/json"}
        )
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        data = read_whole(response.read)
        return Answer(status=response.status, headers=headers, body=data)

    def close(self) -> None:
        self._connection.close()


def read_whole(read: Callable[[], bytes]) -> bytes:
    """`read()`, with an answer that is shorter than promised as an `OSError`."""
    try:
        return read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"cut: {error!r}") from error


def _at_end(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(30.0)


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that have not been reaped."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no VmRSS")


def polled(every_s: float, most_s: float) -> Iterator[float]:
    """Seconds passed, again and again until `most_s`."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < most_s:
        yield passed
        time.sleep(every_s)
