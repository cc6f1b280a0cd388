"""What the black-box tests share: the catalogue as a configuration, calls, and what every error must look like."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from routeiq.simulator import CATALOGUE
from tests.support.http import Answer, call
from tests.support.processes import MASTER_KEY, Gateway, SimulatorProcess, deployment

KEY = {"authorization": f"Bearer {MASTER_KEY}"}
UPSTREAM_KEY = "sk-upstream-secret-4711"
EASY = "What is the capital of France?"
HARD = (
    "Prove step by step that there are infinitely many primes congruent to 3 modulo 4, then design a "
    "concurrent algorithm in Rust that enumerates them, derive its complexity, optimize it, and explain "
    "rigorously why it is free of data races."
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def entry(
    group: str, sim_url: str, model: str = "sim-small", *, info: Any = None, **params: Any
) -> dict[str, Any]:
    """An entry of `model_list` with the upstream key that must never be seen by a client."""
    made = deployment(group, sim_url, model, **{"api_key": UPSTREAM_KEY, **params})
    return made if info is None else {**made, "model_info": info}


def catalogue(sim_url: str) -> list[dict[str, Any]]:
    """Every simulated model under its own name and id, with its price, window and capabilities."""
    return [
        entry(
            model.name,
            sim_url,
            model.name,
            info={
                "id": model.name,
                "mode": "embedding" if model.embedding_dimensions else "chat",
                "input_cost_per_token": model.input_usd_per_mtok / 1e6,
                "output_cost_per_token": model.output_usd_per_mtok / 1e6,
                "max_input_tokens": model.context_tokens,
                "routeiq": {"capabilities": sorted(model.capabilities)},
            },
        )
        for model in CATALOGUE
    ]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def chat(
    gateway: Gateway,
    model: str = "sim-small",
    content: Any = "Say hello.",
    *,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> Answer:
    """One chat completion with the master key."""
    body = {"model": model, "messages": [user(content)], **fields}
    return call(f"{gateway.url}/v1/chat/completions", body, headers={**KEY, **(headers or {})})


def post(
    gateway: Gateway, path: str, body: Any, headers: Mapping[str, str] | None = None
) -> Answer:
    return call(gateway.url + path, body, headers={**KEY, **(headers or {})})


def get(gateway: Gateway, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    return call(gateway.url + path, headers=KEY if headers is None else headers)


def decision_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The record that the answer's decision id names."""
    found = get(gateway, f"/routeiq/v1/decisions/{answer.headers['x-routeiq-decision-id']}")
    assert found.status == 200, found.body
    record: dict[str, Any] = found.json()
    return record


def answered_by(answer: Answer) -> str:
    """The model group that answered a request that succeeded."""
    assert answer.status == 200, answer.body
    return answer.headers["x-routeiq-model"]


def received(simulator: SimulatorProcess) -> dict[str, Any]:
    """The only request that the simulator got since its last reset."""
    (only,) = simulator.requests()
    return only


def assert_error(
    answer: Answer,
    status: int,
    code: str | None = None,
    *,
    says: str = "",
    param: str | None = None,
) -> dict[str, Any]:
    """OpenAI's error shape, a request id, no traceback."""
    assert answer.status == status, (answer.status, answer.body[:500])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"] == param
    assert says.lower() in error["message"].lower(), error["message"]
    assert b"Traceback" not in answer.body
    return error


def assert_discreet(answer: Answer, *secrets: str) -> None:
    """Nothing in head or body names a key, an upstream's address, or a file of ours."""
    seen = answer.body.decode("utf-8", "replace") + json.dumps(dict(answer.headers))
    for secret in (UPSTREAM_KEY, MASTER_KEY, "Traceback", ".py", "site-packages", *secrets):
        assert secret not in seen, f"{secret!r} leaked in {seen!r}"


def raw(gateway: Gateway, *pieces: bytes, timeout_s: float = 5.0) -> bytes:
    """Bytes to the gateway as they are; what came back until it closed or kept silent."""
    parts = urlsplit(gateway.url)
    got = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
            while data := sock.recv(65536):
                got += data
        except (TimeoutError, ConnectionError):  # silent, or closed under unread bytes
            pass
    return got


def parsed(reply: bytes) -> Answer:
    """The first answer in raw bytes."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
    }
    length = int(headers.get("content-length", len(rest)))
    return Answer(status=int(lines[0].split()[1]), headers=headers, body=rest[:length])


def raw_post(path: str, body: bytes, *headers: str) -> bytes:
    """An HTTP/1.1 request with a key, `Connection: close`, and any further header lines."""
    lines = [f"POST {path} HTTP/1.1", "host: gateway", f"authorization: Bearer {MASTER_KEY}"]
    lines += ["connection: close", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def log_lines(gateway: Gateway) -> list[dict[str, Any]]:
    """The JSON lines that the gateway printed so far."""
    found = []
    for line in gateway.log().split("\n"):
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def write(folder: Path, config: Mapping[str, Any]) -> Path:
    """A config.yaml (JSON is YAML) with the master key, unless it says otherwise."""
    path = folder / "config.yaml"
    path.write_text(json.dumps({"general_settings": {"master_key": MASTER_KEY}, **config}))
    return path


def names(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]
