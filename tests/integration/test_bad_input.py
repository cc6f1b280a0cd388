"""Whatever comes in, a small error in OpenAI's shape goes out, and the gateway goes on."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    KEY,
    answered_by,
    assert_discreet,
    assert_error,
    catalogue,
    chat,
    get,
    parsed,
    post,
    raw,
    raw_post,
    received,
    user,
)
from tests.support.http import Answer, call
from tests.support.processes import MASTER_KEY, Gateway, SimulatorProcess

LIMIT = 40_000
CHAT = "/v1/chat/completions"
GOOD = {"model": "sim-small", "messages": [user("hello")]}


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(
        {
            "model_list": catalogue(simulator.url),
            "routeiq": {"server": {"max_body_bytes": LIMIT}},
        }
    )


@pytest.fixture(autouse=True)
def still_answers(gateway: Gateway) -> Iterator[None]:
    """After each test the gateway works and has logged no traceback."""
    yield
    assert answered_by(chat(gateway)) == "sim-small"
    assert "Traceback" not in gateway.log()


def keeps_secrets(answer: Answer, simulator: SimulatorProcess) -> None:
    parts = urlsplit(simulator.url)
    assert_discreet(answer, parts.netloc, str(parts.port), "simulator")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b"12",
        b'{"model": "sim-small", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'\xff\xfe{\x00"\x00',
        b'{"model": "sim-small", "messages": NaN}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 9000,
        b'{"model": "sim-small", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "sim-small"} {"model": "again"}',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/responses", "/routeiq/v1/route"])
def test_what_is_not_a_json_object(
    gateway: Gateway, sim: SimulatorProcess, path: str, body: bytes
) -> None:
    answer = post(gateway, path, body)
    assert_error(answer, 400, "invalid_request")
    keeps_secrets(answer, sim)
    assert sim.requests() == []


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [100, 300, 900])
def test_deep_nesting_is_refused_or_passed_on(
    gateway: Gateway, sim: SimulatorProcess, depth: int
) -> None:
    answer = post(gateway, CHAT, {**GOOD, "metadata": nested(depth)})
    if depth == 100:
        assert answer.status == 200
        assert received(sim)["json"]["metadata"] == nested(depth)
    else:
        assert_error(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": ["sim-small"]}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_wrong_types_name_the_field(
    gateway: Gateway, sim: SimulatorProcess, change: dict[str, Any], param: str
) -> None:
    answer = post(gateway, CHAT, {**GOOD, **change})
    assert_error(answer, 400, "invalid_request", param=param, says=param)
    keeps_secrets(answer, sim)
    assert sim.requests() == []


@pytest.mark.parametrize(
    ("asked", "suggested"),
    [("sim-smal", "'sim-small'"), ("sim_large", "'sim-large'"), ("zzz", ""), ("x" * 5000, "")],
)
def test_an_unknown_model_gets_a_suggestion(gateway: Gateway, asked: str, suggested: str) -> None:
    answer = chat(gateway, asked)
    error = assert_error(answer, 404, "model_not_found", param="model", says=suggested)
    assert ("did you mean" in error["message"].lower()) is bool(suggested)
    assert len(answer.body) < 600


def test_names_cannot_inject_headers(gateway: Gateway) -> None:
    for name in ("a\r\nset-cookie: x=1", "\x00", "é\u2028", "sim-small\n"):
        answer = chat(gateway, name)
        assert_error(answer, 404, "model_not_found")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "line",
    [
        "x-request-id: abc\r\n set-cookie: x=1",
        "x-request-id: a\x00b",
        "x-routeiq-session-id: a\x0bb",
        "x-routeiq-tags: \xff\xfe",
        "x-routeiq-profile: \xe9",
        "x-routeiq-hint: " + "h" * 5000,
    ],
)
def test_header_values_cannot_inject_headers(gateway: Gateway, line: str) -> None:
    reply = raw(gateway, raw_post(CHAT, json.dumps(GOOD).encode(), line))
    answer = parsed(reply)
    assert answer.status in (200, 400)
    assert "set-cookie" not in answer.headers
    assert "\x00" not in answer.headers["x-request-id"]
    if answer.status == 400:
        assert_error(answer, 400)


def test_a_declared_body_over_the_limit(gateway: Gateway, sim: SimulatorProcess) -> None:
    answer = post(gateway, CHAT, b"x" * (LIMIT + 1))
    assert_error(answer, 413, "request_too_large", says=str(LIMIT))
    exact = json.dumps({**GOOD, "pad": ""}).encode()
    exact = exact[:-2] + b"p" * (LIMIT - len(exact)) + exact[-2:]
    assert len(exact) == LIMIT
    assert post(gateway, CHAT, exact).status == 200


def test_a_chunked_body_over_the_limit_ends_the_connection(gateway: Gateway) -> None:
    head = raw_post(CHAT, b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    head = head.replace(b"connection: close\r\n", b"")
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    answer = parsed(raw(gateway, head, chunk * 12, timeout_s=1.0))
    assert_error(answer, 413, "request_too_large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_bomb(gateway: Gateway, encoding: str) -> None:
    plain = b" " * 20_000_000
    bomb = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    assert len(bomb) < LIMIT
    answer = post(gateway, CHAT, bomb, {"content-encoding": encoding})
    assert_error(answer, 413, "request_too_large")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_unknown_encodings_are_named(gateway: Gateway, encoding: str) -> None:
    answer = post(gateway, CHAT, b"xxxx", {"content-encoding": encoding})
    assert_error(answer, 400, says=encoding)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello \r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/models HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/mod\xffels HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%00%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://example.com/v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad name: 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_what_is_hardly_http(gateway: Gateway, sim: SimulatorProcess, sent: bytes) -> None:
    reply = raw(gateway, sent, timeout_s=1.0)
    answer = parsed(reply)
    assert 400 <= answer.status < 500
    assert_error(answer, answer.status)
    keeps_secrets(answer, sim)


def test_a_websocket_is_not_spoken(gateway: Gateway) -> None:
    upgrade = (
        f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER_KEY}\r\n"
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    answer = parsed(raw(gateway, upgrade.encode(), timeout_s=1.0))
    assert answer.status == 200, "the upgrade is ignored"


def test_a_huge_head_is_refused_before_it_fills_the_memory(gateway: Gateway) -> None:
    start = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: "
    began = time.monotonic()
    reply = raw(gateway, start, *[b"a" * 65536] * 32)
    if reply:  # the connection may be reset under the bytes that are still on their way
        assert_error(parsed(reply), 431, "headers_too_large")
    many = b"".join(b"x-%d: y\r\n" % n for n in range(200_000))
    reply = raw(gateway, start + b"\r\n", many)
    if reply:
        assert_error(parsed(reply), 431, "headers_too_large")
    assert time.monotonic() - began < 4, "the connections were closed, not left waiting"
    assert b"200 OK" in raw(
        gateway, raw_post(CHAT, json.dumps(GOOD).encode(), "x-large: " + "a" * 8000)
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/v1/models/sim-small", "GET"),
        ("OPTIONS", "/v1/embeddings", "POST"),
        ("POST", "/_health/live", "GET, HEAD"),
        ("POST", "/routeiq/v1/decisions/x", "GET"),
        ("GET", "/routeiq/v1/route", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    gateway: Gateway, method: str, path: str, allowed: str
) -> None:
    answer = call(gateway.url + path, method=method, headers=KEY)
    assert_error(answer, 405, "method_not_allowed", says=allowed)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/chat/completions", "/v1/models/", "/routeiq/v1/", "/../etc/passwd"]
)
def test_an_unknown_path(gateway: Gateway, path: str) -> None:
    assert_error(get(gateway, path), 404, "not_found", says=path)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": f"Basic {MASTER_KEY}"},
        {"authorization": f"Bearer {MASTER_KEY}x"},
        {"authorization": f"Bearer {MASTER_KEY[:-1]}"},
        {"authorization": MASTER_KEY},
        {"x-api-key": "sk-wrong"},
        {"api-key": "\xe9"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/routeiq/v1/config", "/routeiq/v1/route"])
def test_without_a_good_key(
    gateway: Gateway, sim: SimulatorProcess, path: str, headers: dict[str, str]
) -> None:
    posts = path.endswith(("completions", "route"))
    answer = call(gateway.url + path, GOOD if posts else None, headers=headers)
    assert_error(answer, 401, "invalid_api_key")
    assert "sk-wrong" not in answer.body.decode()
    assert sim.requests() == []


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1e2", "x", "9" * 30, "%00"])
def test_a_bad_limit(gateway: Gateway, limit: str) -> None:
    answer = get(gateway, f"/routeiq/v1/decisions?limit={limit}")
    assert_error(answer, 400, "invalid_request", param="limit")


def test_a_client_that_leaves_in_the_middle_of_its_body(gateway: Gateway) -> None:
    for path in (CHAT, "/routeiq/v1/route"):
        head = raw_post(path, b"x" * 100)[:-50]
        raw(gateway, head, timeout_s=0.2)


def test_an_expectation_is_met(gateway: Gateway) -> None:
    parts = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    body = json.dumps(GOOD).encode()
    connection.putrequest("POST", CHAT)
    for name, value in {**KEY, "expect": "100-continue", "content-length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == 200
    connection.close()
